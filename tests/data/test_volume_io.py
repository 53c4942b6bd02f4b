import gzip
from pathlib import Path

import itk
import nibabel as nib
import numpy as np
import pytest
from monai.transforms import LoadImage

from weakmedsam_ext.data import Grid, atomic_path, check_same_grid, load_mask, load_volume, read_grid, read_json
from weakmedsam_ext.data.io import write_json, write_nifti

AFFINE = np.array([[-0.6, 0, 0, 10], [0, -0.6, 0, -20], [0, 0, 2.5, 30], [0, 0, 0, 1]])


def volume(shape=(5, 6, 7)):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii"])
def test_what_is_written_is_what_monai_and_we_read(tmp_path, name):
    write_nifti(volume(), AFFINE, tmp_path / name)
    ours, theirs = load_volume(tmp_path / name), LoadImage(image_only=True)(tmp_path / name)
    np.testing.assert_array_equal(ours.array, volume())
    np.testing.assert_array_equal(theirs.numpy(), volume())
    np.testing.assert_allclose(ours.affine, AFFINE, atol=1e-5)
    np.testing.assert_allclose(theirs.affine, AFFINE, atol=1e-5)
    assert read_grid(tmp_path / name).shape == (5, 6, 7)


def test_itk_reads_the_same_place_from_a_nifti_file(tmp_path):
    write_nifti(volume(), AFFINE, tmp_path / "a.nii.gz")
    image = itk.imread(str(tmp_path / "a.nii.gz"))
    # ITK speaks LPS, NIfTI RAS
    np.testing.assert_allclose(image.TransformIndexToPhysicalPoint((1, 2, 3)), [-9.4, 21.2, 37.5], atol=1e-5)


def test_the_same_voxels_give_the_same_bytes(tmp_path):
    write_nifti(volume(), AFFINE, tmp_path / "a.nii.gz")
    write_nifti(volume(), AFFINE, tmp_path / "b.nii.gz")
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_an_interrupted_write_leaves_the_old_file_and_no_other(tmp_path):
    write_json({"old": 1}, tmp_path / "a.json")
    with pytest.raises(RuntimeError, match="cut"), atomic_path(tmp_path / "a.json") as temporary:
        temporary.write_text("half")
        raise RuntimeError("cut")
    assert read_json(tmp_path / "a.json", "") == {"old": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_nifti_file_needs_its_ending(tmp_path):
    with pytest.raises(ValueError, match=r"ends in .nii.gz or .nii, but got .*a.img"):
        write_nifti(volume(), AFFINE, tmp_path / "a.img")


def test_missing_volume(tmp_path):
    with pytest.raises(FileNotFoundError, match="a.nii.gz does not exist; correct the path"):
        load_volume(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("keep", [0, 30, 400])
def test_truncated_volume(tmp_path, keep):
    write_nifti(volume(), AFFINE, tmp_path / "a.nii.gz")
    (tmp_path / "b.nii.gz").write_bytes((tmp_path / "a.nii.gz").read_bytes()[:keep])
    with pytest.raises(
        ValueError, match="b.nii.gz is damaged or no medical volume .*download, export or compute it again"
    ):
        load_volume(tmp_path / "b.nii.gz")


def test_truncated_uncompressed_volume(tmp_path):
    write_nifti(volume(), AFFINE, tmp_path / "a.nii")
    (tmp_path / "b.nii").write_bytes((tmp_path / "a.nii").read_bytes()[:600])
    with pytest.raises(ValueError, match="b.nii is damaged"):
        load_volume(tmp_path / "b.nii")


def test_truncated_nrrd(tmp_path):
    itk.imwrite(itk.image_from_array(volume()), str(tmp_path / "a.nrrd"))
    (tmp_path / "b.nrrd").write_bytes((tmp_path / "a.nrrd").read_bytes()[:300])
    with pytest.raises(ValueError, match="b.nrrd is damaged"):
        load_volume(tmp_path / "b.nrrd")


def test_text_with_the_name_of_a_volume(tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(b"<html>404</html>" * 100))
    with pytest.raises(ValueError, match="a.nii.gz is damaged or no medical volume"):
        load_volume(tmp_path / "a.nii.gz")
    with pytest.raises(ValueError, match="a.nii.gz is damaged or no medical volume"):
        read_grid(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("name", ["a.bmp", "a.npy", "a.pkl"])
def test_other_formats_are_refused_without_opening_them(tmp_path, name):
    (tmp_path / name).write_bytes(b"anything")
    with pytest.raises(ValueError, match="expected a medical volume .*convert it to .nii.gz"):
        load_volume(tmp_path / name)


@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 7, 2)])
@pytest.mark.parametrize("read", [load_volume, read_grid])
def test_not_three_dimensional(tmp_path, shape, read):
    nib.save(nib.Nifti1Image(volume(shape), np.eye(4)), tmp_path / "a.nii.gz")
    with pytest.raises(ValueError, match=r"a.nii.gz: expected a 3-D volume, but got shape"):
        read(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_voxels_that_are_no_numbers(tmp_path, value):
    broken = volume()
    broken[0, 0, :2] = value
    write_nifti(broken, AFFINE, tmp_path / "a.nii.gz")
    with pytest.raises(ValueError, match="a.nii.gz: 2 voxels are NaN or infinite; replace them"):
        load_volume(tmp_path / "a.nii.gz")


def test_a_mask_with_fractions(tmp_path):
    write_nifti(volume(), AFFINE, tmp_path / "a.nii.gz")
    with pytest.raises(ValueError, match="expected whole label values, but got fractions; resample masks with nearest"):
        load_mask(tmp_path / "a.nii.gz")


def test_grids_that_differ():
    image = Grid(Path("image.nii"), (5, 6, 7), AFFINE)
    check_same_grid(image, Grid(Path("mask.nii"), (5, 6, 7), AFFINE + 1e-5))
    with pytest.raises(ValueError, match=r"mask.nii: expected the shape \(5, 6, 7\) of image.nii, but got \(5, 6, 8\)"):
        check_same_grid(image, Grid(Path("mask.nii"), (5, 6, 8), AFFINE))
    moved = AFFINE.copy()
    moved[0, 3] += 2
    with pytest.raises(ValueError, match="mask.nii: its affine differs from that of image.nii by up to 2;"):
        check_same_grid(image, Grid(Path("mask.nii"), (5, 6, 7), moved))


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_json_that_is_no_object(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match="a.json.*; delete it"):
        read_json(tmp_path / "a.json", "delete it")
