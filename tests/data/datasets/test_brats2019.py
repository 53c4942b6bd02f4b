import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from weakmedsam_ext.data import decathlon_cases, list_brats2019, load_mask, load_volume, prepare_brats2019

REAL = Path(__file__).resolve().parents[4] / "shared" / "data" / "brats2019_layout"
SHAPE = (7, 6, 5)
AFFINE = np.array([[-1.0, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]])  # of the challenge
TRAINING = "MICCAI_BraTS_2019_Data_Training"
HIGH, LOW, UNGRADED = "BraTS19_B_1", "BraTS19_A_1", "BraTS19_C_1"


def voxels(kind, shape=SHAPE):
    if kind == "seg":
        return np.random.default_rng(4).choice([0, 1, 2, 4], shape).astype(np.uint8)
    return np.random.default_rng(["flair", "t1", "t1ce", "t2"].index(kind)).integers(0, 3000, shape).astype(np.int16)


def write(folder, kind, ending=".nii.gz", shape=SHAPE, affine=AFFINE):
    """By nibabel alone, so that it stands for what others have written."""
    path = folder / f"{folder.name}_{kind}{ending}"
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels(kind, shape), affine), path)
    return path


@pytest.fixture
def root(tmp_path):
    """A compressed case in HGG, a plain one in LGG, and a validation case."""
    for folder, ending in ((f"{TRAINING}/HGG/{HIGH}", ".nii.gz"), (f"{TRAINING}/LGG/{LOW}", ".nii")):
        for kind in ("flair", "t1", "t1ce", "t2", "seg"):
            write(tmp_path / "in" / folder, kind, ending)
    write(tmp_path / "in" / "MICCAI_BraTS_2019_Data_Validation" / UNGRADED, "flair")
    return tmp_path / "in"


def test_cases_as_downloaded(root):
    low, high = root / TRAINING / "LGG" / LOW, root / TRAINING / "HGG" / HIGH
    validation = root / "MICCAI_BraTS_2019_Data_Validation" / UNGRADED
    assert list_brats2019(root) == [
        {"case": LOW, "image": str(low / f"{LOW}_flair.nii"), "label": str(low / f"{LOW}_seg.nii"), "grade": "LGG"},
        {
            "case": HIGH,
            "image": str(high / f"{HIGH}_flair.nii.gz"),
            "label": str(high / f"{HIGH}_seg.nii.gz"),
            "grade": "HGG",
        },
        {"case": UNGRADED, "image": str(validation / f"{UNGRADED}_flair.nii.gz")},
    ]


@pytest.mark.parametrize(("folder", "cases"), [("", [LOW, HIGH]), ("HGG", [HIGH]), ("LGG", [LOW])])
def test_any_of_the_folders_can_be_given(root, folder, cases):
    assert [item["case"] for item in list_brats2019(root / TRAINING / folder)] == cases


@pytest.mark.parametrize("modality", ["flair", "t1", "t1ce", "t2"])
def test_decathlon_layout(root, tmp_path, modality):
    listing = prepare_brats2019(root / TRAINING, tmp_path / "out", modality, progress=False)
    assert listing == tmp_path / "out" / "dataset.json"
    content = json.loads(listing.read_text())
    assert list(content["labels"]) == ["0", "1", "2", "3", "4"]
    assert [content["labels"][value] for value in "024"] == ["background", "oedema", "enhancing tumour"]
    assert content["modality"] == {"0": "MRI"} and modality in content["description"]
    low, high = decathlon_cases(tmp_path / "out")
    assert (low["case"], high["case"]) == (LOW, HIGH)
    assert Path(high["image"]).is_symlink() and Path(high["label"]).is_symlink()
    assert not Path(low["image"]).is_symlink() and not Path(low["label"]).is_symlink()
    for case in (low, high):
        image, mask = load_volume(case["image"]), load_mask(case["label"])
        np.testing.assert_array_equal(image.array, voxels(modality))
        np.testing.assert_array_equal(mask.array, voxels("seg"))
        np.testing.assert_array_equal([image.affine, mask.affine], [AFFINE, AFFINE])


def test_validation_cases_are_test_cases_and_grades_are_kept(root, tmp_path):
    prepare_brats2019(root, tmp_path / "out", progress=False)
    (case,) = decathlon_cases(tmp_path / "out", "test")
    assert case["case"] == UNGRADED and "label" not in case
    np.testing.assert_array_equal(load_volume(case["image"]).array, voxels("flair"))
    kept = json.loads((tmp_path / "out" / "cases.json").read_text())
    assert {name: item["grade"] for name, item in kept.items()} == {LOW: "LGG", HIGH: "HGG", UNGRADED: None}


def test_an_interrupted_run_goes_on_where_it_stopped(root, tmp_path):
    broken = root / TRAINING / "HGG" / HIGH / f"{HIGH}_seg.nii.gz"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:40])
    with pytest.raises(
        ValueError, match=f"{HIGH}_seg.nii.gz is damaged or no medical volume .*download, export or compute it"
    ):
        prepare_brats2019(root, tmp_path / "out", progress=False)
    assert not (tmp_path / "out" / "dataset.json").exists()
    broken.write_bytes(whole)
    finished = [tmp_path / "out" / folder / f"{LOW}.nii.gz" for folder in ("imagesTr", "labelsTr")]
    before = [path.stat().st_mtime_ns for path in finished]
    finished[1].unlink()
    prepare_brats2019(root, tmp_path / "out", progress=False)
    assert finished[0].stat().st_mtime_ns == before[0] and finished[1].stat().st_mtime_ns > before[1]
    prepare_brats2019(root, tmp_path / "out", progress=False)
    assert len(decathlon_cases(tmp_path / "out")) == 2
    assert not list((tmp_path / "out").rglob("*.partial"))


def test_modalities_and_cases_are_not_mixed_in_one_output(root, tmp_path):
    prepare_brats2019(root / TRAINING, tmp_path / "out", "t1", progress=False)
    with pytest.raises(ValueError, match="other files than the t1ce images of source; give an empty folder"):
        prepare_brats2019(root / TRAINING, tmp_path / "out", "t1ce", progress=False)
    write(root / TRAINING / "HGG" / "BraTS19_D_1", "t1")
    write(root / TRAINING / "HGG" / "BraTS19_D_1", "seg")
    with pytest.raises(ValueError, match="other files than the t1 images of source; give an empty folder"):
        prepare_brats2019(root / TRAINING, tmp_path / "out", "t1", progress=False)
    assert len(decathlon_cases(tmp_path / "out")) == 2


def test_another_data_set_is_not_overwritten(root, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "dataset.json").write_text('{"name": "LA2018"}')
    with pytest.raises(ValueError, match="already holds the data set 'LA2018'; give another folder for 'BraTS2019'"):
        prepare_brats2019(root, tmp_path / "out", progress=False)


@pytest.mark.parametrize("ending", [".nii.gz", ".nii"])
def test_a_mask_on_another_grid_is_named(tmp_path, ending):
    folder = tmp_path / "in" / "HGG" / HIGH
    write(folder, "flair", ending)
    write(folder, "seg", ending, shape=(7, 6, 4))
    with pytest.raises(ValueError, match=rf"{HIGH}_seg{ending}: expected the shape \(7, 6, 5\) .* got \(7, 6, 4\)"):
        prepare_brats2019(tmp_path / "in", tmp_path / "out", progress=False)
    write(folder, "seg", ending, affine=np.eye(4))
    with pytest.raises(ValueError, match=f"{HIGH}_seg{ending}: its affine differs .* by up to 239"):
        prepare_brats2019(tmp_path / "in", tmp_path / "out", progress=False)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["cases.json"]


def test_a_plain_mask_with_fractions_is_named(root, tmp_path):
    path = root / TRAINING / "LGG" / LOW / f"{LOW}_seg.nii"
    nib.save(nib.Nifti1Image(np.full(SHAPE, 0.5, np.float32), AFFINE), path)
    with pytest.raises(ValueError, match=f"{LOW}_seg.nii: expected whole label values, but got fractions"):
        prepare_brats2019(root, tmp_path / "out", progress=False)


def test_what_is_missing_is_named(root, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere is no folder; give the folder that holds HGG and LGG"):
        list_brats2019(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="Validation holds no image that ends in _t2.nii.gz or _t2.nii; give"):
        list_brats2019(root / "MICCAI_BraTS_2019_Data_Validation", "t2")
    (root / TRAINING / "HGG" / HIGH / f"{HIGH}_seg.nii.gz").unlink()
    message = f"{HIGH}_seg.nii.gz does not exist; download the mask, or move the folder of {HIGH} out of HGG"
    with pytest.raises(FileNotFoundError, match=message):
        list_brats2019(root)


def test_an_unknown_modality(root):
    with pytest.raises(ValueError, match="By 't1c', did you mean 't1"):
        list_brats2019(root, "t1c")


@pytest.mark.parametrize(("folder", "ending"), [(f"LGG/{HIGH}", ".nii.gz"), (f"HGG/{HIGH}", ".nii")])
def test_a_case_that_is_there_twice(root, folder, ending):
    write(root / TRAINING / folder, "flair", ending)
    with pytest.raises(ValueError, match=f"{HIGH}_flair.* is there a second time as .*; remove one of them"):
        list_brats2019(root)


def test_a_mask_that_is_there_twice(root):
    write(root / TRAINING / "HGG" / HIGH, "seg", ".nii")
    with pytest.raises(ValueError, match="_seg.nii.gz is there a second time as .*_seg.nii; remove one of them"):
        list_brats2019(root)


@pytest.mark.parametrize("name", [f"._{HIGH}_flair.nii.gz", f"{HIGH}_flair.nii.gz.7.partial", f"{HIGH}_x_flair.nii/"])
def test_what_is_no_image_is_left_alone(root, name):
    expected = list_brats2019(root)
    stray = root / TRAINING / "HGG" / HIGH / name
    if name.endswith("/"):
        stray.mkdir()
    else:
        stray.write_bytes(b"nothing")
    assert list_brats2019(root) == expected


@pytest.mark.real_data
@pytest.mark.skipif(not REAL.is_dir(), reason=f"the glioma case is not at {REAL}")
def test_real_case(tmp_path):
    prepare_brats2019(REAL, tmp_path / "out", progress=False)
    (case,) = decathlon_cases(tmp_path / "out")
    volume, mask = load_volume(case["image"]), load_mask(case["label"])
    assert volume.shape == mask.shape == (240, 240, 155)
    assert set(np.unique(mask.array)) == {0, 1, 2, 4}
    # oedema and tumour core are brighter in FLAIR than the rest of the head
    assert volume.array[mask.array > 0].mean() > volume.array[(mask.array == 0) & (volume.array > 0)].mean()
    assert json.loads((tmp_path / "out" / "cases.json").read_text())[case["case"]]["grade"] == "HGG"


@pytest.mark.parametrize("folder", ["HGG", "HGG/{case}/{case}", "a/b/HGG/{case}"])
def test_flat_and_deeper_folders(tmp_path, folder):
    path = tmp_path / folder.format(case=HIGH)
    path.mkdir(parents=True)
    for kind in ("flair", "seg"):
        nib.save(nib.Nifti1Image(voxels(kind), AFFINE), path / f"{HIGH}_{kind}.nii.gz")
    (item,) = list_brats2019(tmp_path)
    assert (item["case"], item["grade"]) == (HIGH, "HGG")
    assert Path(item["image"]).is_file() and Path(item["label"]).is_file()


def test_names_in_upper_case(tmp_path):
    write(tmp_path / "LGG" / LOW, "flair").rename(tmp_path / "LGG" / LOW / f"{LOW}_FLAIR.nii.gz")
    write(tmp_path / "LGG" / LOW, "seg").rename(tmp_path / "LGG" / LOW / f"{LOW}_SEG.nii.gz")
    (item,) = list_brats2019(tmp_path)
    assert item["case"] == LOW and item["label"].endswith("_SEG.nii.gz")


def test_several_modalities_are_a_list_in_their_order(root):
    item = list_brats2019(root / TRAINING, ["t1ce", "flair"])[0]
    assert [Path(path).name for path in item["image"]] == [f"{LOW}_t1ce.nii", f"{LOW}_flair.nii"]


def test_a_missing_modality_is_named_with_its_case(root):
    with pytest.raises(FileNotFoundError, match=f"1 cases have no t1 image, for example {UNGRADED}; download it"):
        list_brats2019(root, ["flair", "t1"])


def test_one_modality_is_one_image_however_it_is_asked_for(root):
    assert list_brats2019(root / TRAINING, ["t1"]) == list_brats2019(root / TRAINING, "t1")
