import nibabel as nib
import numpy as np
import pytest

from weakmedsam_ext.data import abdomen_phantom, list_abdomenct1k, list_cases, load_mask, load_volume, write_phantoms

SMALL = (48, 36, 16)
LIVER, KIDNEY, SPLEEN, PANCREAS = ORGANS = (1, 2, 3, 4)


@pytest.fixture(scope="module")
def phantoms():
    return [abdomen_phantom(np.random.default_rng(seed)) for seed in range(8)]


def centre(mask):
    """In 0..1: to the patient's left, to the back, to the head."""
    return np.argwhere(mask).mean(0) / mask.shape


def extent(mask):
    seen = np.flatnonzero(mask.any((0, 1)))
    return seen[0], seen[-1]


def test_hounsfield_units(phantoms):
    expected = {LIVER: (85, 120), KIDNEY: (140, 185), SPLEEN: (95, 135), PANCREAS: (65, 100)}
    for phantom in phantoms:
        assert phantom.image.dtype == np.int16 and phantom.target.dtype == np.uint8
        assert set(np.unique(phantom.target)) == {0, *ORGANS}
        for organ, (low, high) in expected.items():
            assert low < phantom.image[phantom.target == organ].mean() < high
        assert -1024 <= phantom.image.min() < -1000 and abs(np.median(phantom.image[:2]) + 1000) < 5  # air
        assert 400 < np.percentile(phantom.image, 99.9) < 800  # bone
        fat = phantom.image[(phantom.image > -150) & (phantom.image < -50)]
        assert fat.size > 0.08 * phantom.image.size and abs(fat.mean() + 100) < 15


def test_organs_lie_as_in_people(phantoms):
    for phantom in phantoms:
        liver, kidney, spleen, pancreas = (phantom.target == organ for organ in ORGANS)
        assert centre(liver)[0] < 0.45 < 0.6 < centre(spleen)[0]
        assert 0.4 < centre(pancreas)[0] < 0.65
        assert centre(kidney)[1] > 0.6 > centre(pancreas)[1]
        middle = kidney.shape[0] // 2
        right, left = kidney[:middle], kidney[middle:]
        assert min(right.sum(), left.sum()) > 0.25 * kidney.sum()
        assert centre(right)[2] < centre(left)[2] + 0.04  # the liver pushes it down
        assert liver.sum() > 3 * kidney.sum() > kidney.sum() > pancreas.sum()


def test_slices_show_different_organs(phantoms):
    for phantom in phantoms:
        ends = {organ: extent(phantom.target == organ) for organ in ORGANS}
        assert ends[KIDNEY][0] < ends[PANCREAS][0] < ends[SPLEEN][0]
        assert ends[PANCREAS][1] < ends[SPLEEN][1] <= ends[LIVER][1]
        seen = [frozenset(np.unique(phantom.target[:, :, z])) for z in range(phantom.target.shape[2])]
        assert len(set(seen)) >= 5 and {0} in seen
        for organ in ORGANS:
            assert 0.2 < np.mean([organ in labels for labels in seen]) < 0.75


def test_unlabelled_structures_are_as_dense_as_organs(phantoms):
    for phantom in phantoms:
        inside = phantom.target == 0
        assert (inside & (np.abs(phantom.image - 50) < 40)).sum() > (phantom.target > 0).sum()


@pytest.mark.parametrize("seed", range(5))
def test_the_smallest_abdomen_shows_everything(seed):
    assert set(np.unique(abdomen_phantom(np.random.default_rng(seed), (32, 32, 8)).target)) == {0, *ORGANS}


def test_abdomenct1k_layout(tmp_path):
    write_phantoms(tmp_path, "abdomenct1k", num_cases=2, seed=3, size=SMALL, progress=False)
    cases = list_abdomenct1k(tmp_path)
    assert cases == list_cases(tmp_path)
    assert [case["case"] for case in cases] == ["Case_00001", "Case_00002"]
    assert cases[0]["image"] == str(tmp_path / "Image/Case_00001_0000.nii.gz")
    for case in cases:
        image, mask = load_volume(case["image"]), load_mask(case["label"])
        assert image.shape == mask.shape == SMALL and set(np.unique(mask.array)) == {0, *ORGANS}
        np.testing.assert_array_equal(image.affine, mask.affine)
        assert nib.aff2axcodes(image.affine) == ("L", "P", "S")


def test_files_depend_on_seed_and_number_alone(tmp_path):
    for name, seed, count in (("a", 3, 1), ("b", 3, 2), ("c", 4, 1)):
        write_phantoms(tmp_path / name, "abdomenct1k", count, seed, SMALL, progress=False)
    first, same, other = ((tmp_path / name / "Image/Case_00001_0000.nii.gz").read_bytes() for name in "abc")
    assert first == same != other


def test_earlier_phantoms_are_replaced(tmp_path):
    for count in (3, 1):
        write_phantoms(tmp_path, "abdomenct1k", count, size=SMALL, progress=False)
    assert [case["case"] for case in list_abdomenct1k(tmp_path)] == ["Case_00001"]
