import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from weakmedsam_ext.data import (
    decathlon_cases,
    list_abdomenct1k,
    load_mask,
    load_volume,
    prepare_abdomenct1k,
    write_nifti,
)

REAL = Path(__file__).resolve().parents[4] / "shared" / "data" / "abdomenct1k_layout"
SHAPE = (7, 6, 5)
AFFINE = np.diag([-0.8, -0.8, 2.5, 1.0])


def write_image(folder, number):
    voxels = np.random.default_rng(number).integers(-1000, 1000, SHAPE).astype(np.int16)
    write_nifti(voxels, AFFINE, folder / f"Case_{number:05d}_0000.nii.gz")
    return voxels


def write_mask(root, number, shape=SHAPE):
    mask = np.zeros(shape, np.uint8)
    mask[1:5, 1:5, 1:4] = number % 4 + 1
    write_nifti(mask, AFFINE, root / f"Mask/Case_{number:05d}.nii.gz")


@pytest.fixture
def root(tmp_path):
    """Four cases in two parts, of which the last two have no mask."""
    for number, folder in ((1, "Part1"), (2, "Part1"), (3, "Part3"), (4, "Part3")):
        write_image(tmp_path / "in" / f"AbdomenCT-1K-Image{folder}", number)
    write_mask(tmp_path / "in", 1)
    write_mask(tmp_path / "in", 2)
    return tmp_path / "in"


def test_cases_as_downloaded(root):
    cases = list_abdomenct1k(root)
    assert [item["case"] for item in cases] == ["Case_00001", "Case_00002", "Case_00003", "Case_00004"]
    assert cases[1] == {
        "case": "Case_00002",
        "image": str(root / "AbdomenCT-1K-ImagePart1/Case_00002_0000.nii.gz"),
        "label": str(root / "Mask/Case_00002.nii.gz"),
    }
    assert cases[2] == {"case": "Case_00003", "image": str(root / "AbdomenCT-1K-ImagePart3/Case_00003_0000.nii.gz")}


def test_masks_of_images_that_were_not_downloaded_are_left_alone(root):
    write_mask(root, 9)
    assert [("label" in item) for item in list_abdomenct1k(root)] == [True, True, False, False]


def test_decathlon_layout(root, tmp_path):
    voxels = write_image(root / "Image", 0)
    write_mask(root, 0)
    listing = prepare_abdomenct1k(root, tmp_path / "out", progress=False)
    assert listing == tmp_path / "out" / "dataset.json"
    content = json.loads(listing.read_text())
    assert list(content["labels"].values()) == ["background", "liver", "kidney", "spleen", "pancreas"]
    assert content["modality"] == {"0": "CT"} and (content["numTraining"], content["numTest"]) == (3, 2)
    training, test = decathlon_cases(tmp_path / "out"), decathlon_cases(tmp_path / "out", "test")
    assert [item["case"] for item in training] == ["Case_00000", "Case_00001", "Case_00002"]
    assert [item["case"] for item in test] == ["Case_00003", "Case_00004"] and "label" not in test[0]
    np.testing.assert_array_equal(load_volume(training[0]["image"]).array, voxels)
    assert load_mask(training[2]["label"]).array.max() == 3
    assert load_volume(test[0]["image"]).shape == SHAPE


def test_a_second_run_goes_on_and_other_cases_are_not_mixed_in(root, tmp_path):
    prepare_abdomenct1k(root, tmp_path / "out", progress=False)
    (tmp_path / "out" / "dataset.json").unlink()
    (tmp_path / "out" / "labelsTr" / "Case_00002.nii.gz").unlink()
    prepare_abdomenct1k(root, tmp_path / "out", progress=False)
    assert len(decathlon_cases(tmp_path / "out")) == 2
    write_image(root / "Image", 5)
    with pytest.raises(ValueError, match="was prepared from other files than source holds; give an empty folder"):
        prepare_abdomenct1k(root, tmp_path / "out", progress=False)


def test_a_mask_on_another_grid_is_named(root, tmp_path):
    write_mask(root, 2, shape=(7, 6, 4))
    with pytest.raises(ValueError, match=r"Mask/Case_00002.nii.gz: expected the shape \(7, 6, 5\) .* got \(7, 6, 4\)"):
        prepare_abdomenct1k(root, tmp_path / "out", progress=False)
    assert not (tmp_path / "out" / "dataset.json").exists()


def test_what_is_missing_is_named(root, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere is no folder; give the folder that holds Image"):
        list_abdomenct1k(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="empty holds no image that ends in _0000.nii.gz; give the folder"):
        list_abdomenct1k(tmp_path / "empty")
    (root / "Mask/Case_00001.nii.gz").unlink()
    with pytest.raises(FileNotFoundError, match="Mask/Case_00001.nii.gz does not exist; download the mask, or remove"):
        list_abdomenct1k(root)
    (root / "Mask/Case_00002.nii.gz").unlink()
    with pytest.raises(FileNotFoundError, match="Mask holds no mask of the 4 images; give the folder"):
        list_abdomenct1k(root)


def test_a_case_that_is_there_twice(root):
    write_image(root / "Image", 1)
    with pytest.raises(ValueError, match="Case_00001_0000.nii.gz is there a second time as .*; remove one of them"):
        list_abdomenct1k(root)


@pytest.mark.real_data
@pytest.mark.skipif(not REAL.is_dir(), reason=f"the abdominal cases are not at {REAL}")
def test_real_cases(tmp_path):
    prepare_abdomenct1k(REAL, tmp_path / "out", progress=False)
    cases = decathlon_cases(tmp_path / "out")
    assert [item["case"] for item in cases[:2]] == ["Case_00001", "Case_00002"] and len(cases) == 8
    volume, mask = load_volume(cases[0]["image"]), load_mask(cases[0]["label"])
    assert volume.shape == mask.shape and volume.shape[:2] == (257, 257)
    assert set(np.unique(mask.array)) == {0, 1, 2, 3, 4}
    assert nib.load(cases[0]["image"]).header.get_zooms()[2] > 0
