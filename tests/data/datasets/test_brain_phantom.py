import nibabel as nib
import numpy as np
import pytest

from weakmedsam_ext.data import (
    brain_phantom,
    list_brats2019,
    list_cases,
    load_mask,
    load_volume,
    write_nifti,
    write_phantoms,
)

SMALL = (40, 44, 12)
MODALITIES = ("flair", "t1", "t1ce", "t2")


@pytest.fixture(scope="module")
def phantoms():
    return [brain_phantom(np.random.default_rng(seed)) for seed in range(12)]


def on_slices(mask):
    return (mask > 0).any((0, 1))


def brain_around(phantom):
    """Voxels of grey and white matter: no lesion, no look-alike, neither fluid nor fat."""
    flair = phantom.images["flair"]
    middle = np.zeros(flair.shape, bool)
    middle[25:55, 25:70, 8:16] = True
    return middle & (phantom.target == 0) & (phantom.look_alike == 0) & (flair > 250) & (flair < 550)


def test_the_lesion_is_on_a_third_of_the_slices(phantoms):
    shares = [on_slices(phantom.target).mean() for phantom in phantoms]
    assert 0.27 < np.mean(shares) < 0.41 and min(shares) > 0.1 and max(shares) < 0.6


def test_labels_and_sides(phantoms):
    for phantom in phantoms:
        assert set(np.unique(phantom.target)) == {0, 1, 2, 4}
        place = np.argwhere(phantom.target)[:, 0].mean() / phantom.target.shape[0]
        assert (place > 0.5) == (phantom.side == "left")
    assert {phantom.side for phantom in phantoms} == {"left", "right"}


def test_modalities_show_the_lesion_as_in_patients(phantoms):
    for phantom in phantoms:
        brain = brain_around(phantom)
        ratio = {
            name: [
                phantom.images[name][phantom.target == label].mean() / phantom.images[name][brain].mean()
                for label in (1, 2, 4)
            ]
            for name in MODALITIES
        }
        assert ratio["flair"][1] > 1.3 and ratio["flair"][2] > 1.3
        assert ratio["t1"][0] < 0.8 and ratio["t1"][1] < 0.9
        assert ratio["t1ce"][2] > 1.2 and ratio["t1ce"][0] < 0.95
        assert min(ratio["t2"]) > 1.2


def test_flair_is_not_easier_than_in_patients(phantoms):
    # in 8 patients 6 to 26 % of the head's other voxels are brighter than the median of the lesion
    brighter = []
    for phantom in phantoms:
        flair, lesion = phantom.images["flair"].astype(float), phantom.target > 0
        head = (flair > 0.15 * np.percentile(flair, 99)) & ~lesion
        brighter.append((flair[head] > np.median(flair[lesion])).mean())
    assert 0.08 < np.mean(brighter) < 0.2
    spread = [np.std(phantom.images["flair"][phantom.target > 0]) for phantom in phantoms]
    assert min(spread) > 60  # noise alone gives 40


def test_look_alikes_are_bright_on_both_sides_with_and_without_a_lesion(phantoms):
    for phantom in phantoms:
        look_alike, positive = phantom.look_alike > 0, on_slices(phantom.target)
        assert not (look_alike & (phantom.target > 0)).any()
        halves = np.array_split(look_alike, 2)
        assert min(half.sum() for half in halves) > 20
        brain = phantom.images["flair"][brain_around(phantom)].mean()
        assert (look_alike & ~positive).any()
        assert phantom.images["flair"][look_alike & ~positive].mean() > 1.3 * brain
    assert any((on_slices(phantom.look_alike) & on_slices(phantom.target)).any() for phantom in phantoms)


def test_without_a_lesion():
    phantom = brain_phantom(np.random.default_rng(0), SMALL, lesion=False)
    assert not phantom.target.any() and phantom.look_alike.any() and phantom.side == ""


@pytest.mark.parametrize("seed", range(5))
def test_the_smallest_head_shows_everything(seed):
    phantom = brain_phantom(np.random.default_rng(seed), (32, 32, 8))
    assert phantom.target.any() and phantom.look_alike.any()


def test_brats2019_layout(tmp_path):
    write_phantoms(tmp_path, "brats2019", num_cases=2, seed=3, size=SMALL, progress=False)
    cases = list_brats2019(tmp_path, MODALITIES)
    assert [case["case"] for case in cases] == ["BraTS19_Phantom_001_1", "BraTS19_Phantom_002_1"]
    assert list_cases(tmp_path)[0]["label"] == str(
        tmp_path / "HGG/BraTS19_Phantom_001_1/BraTS19_Phantom_001_1_seg.nii.gz"
    )
    for case in cases:
        assert case["grade"] == "HGG"
        mask = load_mask(case["label"])
        assert set(np.unique(mask.array)) <= {0, 1, 2, 4} and mask.array.any()
        for path in case["image"]:
            image = load_volume(path)
            assert image.shape == mask.shape == SMALL and nib.aff2axcodes(image.affine) == ("L", "P", "S")
            np.testing.assert_array_equal(image.affine, mask.affine)


def test_files_depend_on_seed_and_number_alone(tmp_path):
    for name, seed, count in (("a", 3, 1), ("b", 3, 2), ("c", 4, 1)):
        write_phantoms(tmp_path / name, "brats2019", count, seed, SMALL, progress=False)
    file = "HGG/BraTS19_Phantom_001_1/BraTS19_Phantom_001_1_t2.nii.gz"
    first, same, other = ((tmp_path / name / file).read_bytes() for name in "abc")
    assert first == same != other


def test_earlier_phantoms_are_replaced(tmp_path):
    for count in (3, 1):
        write_phantoms(tmp_path, "brats2019", count, size=SMALL, progress=False)
    assert [case["case"] for case in list_brats2019(tmp_path)] == ["BraTS19_Phantom_001_1"]
    assert len(list((tmp_path / "HGG").iterdir())) == 1


def test_other_data_is_not_touched(tmp_path):
    real = tmp_path / "HGG/BraTS19_A_1/BraTS19_A_1_flair.nii.gz"
    write_nifti(np.zeros((4, 4, 4), np.uint8), np.eye(4), real)
    with pytest.raises(ValueError, match="already holds other files; give another folder for 'BrainPhantom'"):
        write_phantoms(tmp_path, "brats2019", 1, size=SMALL)
    assert real.exists()


@pytest.mark.parametrize("first", ["decathlon", "brats2019", "abdomenct1k"])
@pytest.mark.parametrize("second", ["decathlon", "brats2019", "abdomenct1k"])
def test_a_folder_holds_one_layout(tmp_path, first, second):
    write_phantoms(tmp_path, first, 1, size=(32, 32, 8), progress=False)
    if first == second:
        write_phantoms(tmp_path, second, 1, size=(32, 32, 8), progress=False)
    else:
        with pytest.raises(ValueError, match="already holds .*; give another folder for"):
            write_phantoms(tmp_path, second, 1, size=(32, 32, 8), progress=False)
    assert len(list_cases(tmp_path)) == 1
