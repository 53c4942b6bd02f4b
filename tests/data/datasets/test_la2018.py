import builtins
import json
from pathlib import Path

import itk
import nibabel as nib
import numpy as np
import pytest

from weakmedsam_ext.data import decathlon_cases, load_mask, load_volume, prepare_la2018

h5py = pytest.importorskip("h5py")

SHAPE = (8, 7, 6)
REAL = Path(__file__).resolve().parents[4] / "shared" / "data" / "la2018"


def image(seed):
    return np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32)


def atrium(foreground=1):
    mask = np.zeros(SHAPE, np.uint8)
    mask[2:5, 3:6, 1:4] = foreground
    return mask


def write_h5(source, case, voxels, mask):
    path = source / "2018LA_Seg_Training Set" / case / "mri_norm2.h5"
    path.parent.mkdir(parents=True)
    with h5py.File(path, "w") as file:
        file["image"], file["label"] = voxels, mask
    return path


def write_nrrd(path, voxels, spacing=(0.625, 0.625, 0.7), origin=(10.0, 20.0, 30.0)):
    path.parent.mkdir(parents=True, exist_ok=True)
    volume = itk.image_from_array(np.ascontiguousarray(voxels.T))
    volume.SetSpacing(spacing)
    volume.SetOrigin(origin)
    itk.imwrite(volume, str(path))


@pytest.fixture
def source(tmp_path):
    for seed, case in enumerate(("AAA", "BBB", "CCC")):
        write_h5(tmp_path / "la2018", case, image(seed), atrium())
    return tmp_path / "la2018"


def test_h5_tree(source, tmp_path):
    (source / "train.list").write_text("CCC\nAAA\n")
    (source / "test.list").write_text("BBB\n")
    listing = prepare_la2018(source, tmp_path / "out", progress=False)
    assert listing == tmp_path / "out" / "dataset.json"
    cases = decathlon_cases(tmp_path / "out")
    assert json.loads((tmp_path / "out" / "cases.json").read_text()) == {
        "la_001": {"case": "CCC", "list": "train.list", "file": "mri_norm2.h5"},
        "la_002": {"case": "AAA", "list": "train.list", "file": "mri_norm2.h5"},
        "la_003": {"case": "BBB", "list": "test.list", "file": "mri_norm2.h5"},
    }
    for case, seed in zip(cases, (2, 0, 1), strict=True):
        volume = load_volume(case["image"])
        np.testing.assert_array_equal(volume.array, image(seed))
        np.testing.assert_array_equal(load_mask(case["label"]).array, atrium())
        assert nib.aff2axcodes(volume.affine) == ("L", "P", "S")
        np.testing.assert_allclose(nib.affines.voxel_sizes(volume.affine), 0.625)


def test_cases_are_sorted_without_a_list(source, tmp_path):
    prepare_la2018(source, tmp_path / "out", progress=False)
    cases = json.loads((tmp_path / "out" / "cases.json").read_text())
    assert [(case["case"], case["list"]) for case in cases.values()] == [("AAA", None), ("BBB", None), ("CCC", None)]


def test_challenge_tree_keeps_spacing_and_place(tmp_path):
    write_nrrd(tmp_path / "in" / "X" / "lgemri.nrrd", image(4))
    write_nrrd(tmp_path / "in" / "X" / "laendo.nrrd", atrium(255))
    prepare_la2018(tmp_path / "in", tmp_path / "out", progress=False)
    (case,) = decathlon_cases(tmp_path / "out")
    volume = load_volume(case["image"])
    np.testing.assert_array_equal(volume.array, image(4))
    np.testing.assert_array_equal(load_mask(case["label"]).array, atrium())
    # x and y change sign from LPS to RAS
    expected = [[-0.625, 0, 0, -10], [0, -0.625, 0, -20], [0, 0, 0.7, 30], [0, 0, 0, 1]]
    np.testing.assert_allclose(volume.affine, expected, atol=1e-5)


def test_masks_lie_on_the_image_whatever_their_header_says(tmp_path, caplog):
    write_nrrd(tmp_path / "in" / "X" / "lgemri.nrrd", image(4))
    write_nrrd(tmp_path / "in" / "X" / "laendo.nrrd", atrium(255), origin=(0.0, 0.0, 0.0))
    prepare_la2018(tmp_path / "in", tmp_path / "out", progress=False)
    (case,) = decathlon_cases(tmp_path / "out")
    np.testing.assert_allclose(load_mask(case["label"]).affine, load_volume(case["image"]).affine, atol=1e-5)
    assert "laendo.nrrd: header differs" in caplog.text


def test_the_challenges_own_files_are_preferred(source, tmp_path):
    folder = source / "2018LA_Seg_Training Set" / "BBB"
    write_nrrd(folder / "lgemri.nrrd", image(9))
    write_nrrd(folder / "laendo.nrrd", atrium(255))
    prepare_la2018(source, tmp_path / "out", progress=False)
    np.testing.assert_array_equal(load_volume(decathlon_cases(tmp_path / "out")[1]["image"]).array, image(9))


def test_an_interrupted_conversion_goes_on_where_it_stopped(source, tmp_path):
    broken = source / "2018LA_Seg_Training Set" / "BBB" / "mri_norm2.h5"
    whole = broken.read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="BBB/mri_norm2.h5 is damaged or lacks 'image' or 'label' .*download it again"):
        prepare_la2018(source, tmp_path / "out", progress=False)
    assert not (tmp_path / "out" / "dataset.json").exists()
    finished = tmp_path / "out" / "imagesTr" / "la_001.nii.gz"
    before = finished.stat().st_mtime_ns
    broken.write_bytes(whole)
    prepare_la2018(source, tmp_path / "out", progress=False)
    assert finished.stat().st_mtime_ns == before
    assert len(decathlon_cases(tmp_path / "out")) == 3
    assert not list((tmp_path / "out").rglob("*.partial"))


def test_other_cases_are_not_mixed_into_an_output(source, tmp_path):
    prepare_la2018(source, tmp_path / "out", progress=False)
    write_h5(source, "ABC", image(5), atrium())
    with pytest.raises(ValueError, match="was prepared from other cases than source holds; give an empty folder"):
        prepare_la2018(source, tmp_path / "out", progress=False)


def with_nan():
    voxels = image(0)
    voxels[1, 1, 1] = np.nan
    return voxels


@pytest.mark.parametrize(
    ("voxels", "mask", "message"),
    [
        (with_nan(), atrium(), "ZZZ/mri_norm2.h5: the image has NaN or infinite voxels; download it again"),
        (image(0), atrium()[:-1], r"ZZZ/mri_norm2.h5: expected a mask of the image's shape \(8, 7, 6\), but got \(7"),
        (image(0), atrium(2), r"ZZZ/mri_norm2.h5: expected label values 0 and 1 or 255, but got \[0, 2\]"),
        (image(0)[0], atrium()[0], r"ZZZ/mri_norm2.h5: expected a 3-D image, but got shape \(7, 6\)"),
    ],
)
def test_bad_h5(source, tmp_path, voxels, mask, message):
    write_h5(source, "ZZZ", voxels, mask)
    with pytest.raises(ValueError, match=message):
        prepare_la2018(source, tmp_path / "out", progress=False)


def test_h5_without_a_label(source, tmp_path):
    path = write_h5(source, "ZZZ", image(0), atrium())
    with h5py.File(path, "a") as file:
        del file["label"]
    with pytest.raises(ValueError, match="ZZZ/mri_norm2.h5 is damaged or lacks 'image' or 'label'"):
        prepare_la2018(source, tmp_path / "out", progress=False)


def test_bad_nrrd(tmp_path):
    write_nrrd(tmp_path / "in" / "X" / "lgemri.nrrd", image(4))
    with pytest.raises(FileNotFoundError, match="X/laendo.nrrd does not exist; download the mask"):
        prepare_la2018(tmp_path / "in", tmp_path / "out", progress=False)
    write_nrrd(tmp_path / "in" / "X" / "laendo.nrrd", atrium(255)[:, :, :-1])
    with pytest.raises(ValueError, match="X/laendo.nrrd: expected a mask of the image's shape"):
        prepare_la2018(tmp_path / "in", tmp_path / "out", progress=False)


def test_missing_source_or_cases(source, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere is no folder; give the folder that holds the cases"):
        prepare_la2018(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="holds neither lgemri.nrrd nor mri_norm2.h5"):
        prepare_la2018(tmp_path / "empty", tmp_path / "out")
    (source / "train.list").write_text("AAA\nMISSING\n")
    with pytest.raises(FileNotFoundError, match="train.list names MISSING, but .* has no such case; download it"):
        prepare_la2018(source, tmp_path / "out")


def test_h5py_is_asked_for_only_when_needed(source, tmp_path, monkeypatch):
    original = builtins.__import__

    def without_h5py(name, *args, **kwargs):
        if name == "h5py":
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_h5py)
    with pytest.raises(ImportError, match=r'mri_norm2.h5 needs h5py; run: pip install "weakmedsam-ext\[hdf5\]"'):
        prepare_la2018(source, tmp_path / "out", progress=False)


@pytest.mark.real_data
@pytest.mark.skipif(not REAL.is_dir(), reason=f"the left atrium cases are not at {REAL}")
def test_real_cases(tmp_path):
    files = {path.parent.name: path for path in REAL.rglob("mri_norm2.h5")}
    names = next(REAL.rglob("train.list")).read_text().split()[:2]
    for name in reversed(names):
        (tmp_path / "in" / name).mkdir(parents=True)
        (tmp_path / "in" / name / "mri_norm2.h5").symlink_to(files[name])
    (tmp_path / "in" / "train.list").write_text("\n".join(names))
    prepare_la2018(tmp_path / "in", tmp_path / "out", progress=False)
    for case, name in zip(decathlon_cases(tmp_path / "out"), names, strict=True):
        volume, mask = load_volume(case["image"]), load_mask(case["label"])
        with h5py.File(files[name]) as file:
            np.testing.assert_array_equal(volume.array, file["image"])
            np.testing.assert_array_equal(mask.array, file["label"])
        np.testing.assert_allclose(nib.affines.voxel_sizes(volume.affine), 0.625)
        assert nib.aff2axcodes(mask.affine) == ("L", "P", "S")
