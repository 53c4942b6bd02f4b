"""Headers are taken at their word, and refused by name where they cannot be."""

from __future__ import annotations

import gzip
import struct

import itk
import nibabel as nib
import numpy as np
import pytest

from weakmedsam_ext.data import CheckedReader, load_mask, load_volume, read_grid, write_nifti

AFFINE = np.array([[-0.7, 0, 0, 10], [0, 0.8, 0, -20], [0, 0, 2.5, 30], [0, 0, 0, 1.0]])
VOXELS = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)


@pytest.mark.parametrize(("unit", "scale"), [("meter", 1000.0), ("micron", 0.001), ("mm", 1.0), ("unknown", 1.0)])
@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii"])
def test_units_of_length(tmp_path, unit, scale, name):
    stored = AFFINE.copy()
    stored[:3] /= scale
    image = nib.Nifti1Image(VOXELS, stored)
    image.header.set_xyzt_units(unit)
    nib.save(image, tmp_path / name)
    for affine in (
        load_volume(tmp_path / name).affine,
        read_grid(tmp_path / name).affine,
        CheckedReader().get_data(tmp_path / name)[1]["affine"],
    ):
        np.testing.assert_allclose(affine, AFFINE, rtol=1e-5)
    np.testing.assert_array_equal(load_volume(tmp_path / name).array, VOXELS)


@pytest.mark.parametrize("more", [(1,), (1, 1), (1, 1, 1, 1)])
def test_axes_of_one_voxel_at_the_end(tmp_path, more):
    nib.save(nib.Nifti1Image(VOXELS.reshape(*VOXELS.shape, *more), AFFINE), tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(load_volume(tmp_path / "a.nii.gz").array, VOXELS)
    assert read_grid(tmp_path / "a.nii.gz").shape == VOXELS.shape
    array, meta = CheckedReader().get_data(tmp_path / "a.nii.gz")
    assert array.shape == VOXELS.shape and tuple(meta["spatial_shape"]) == VOXELS.shape


def test_a_slope_goes_with_axes_and_units(tmp_path):
    image = nib.Nifti1Image(VOXELS[..., None], AFFINE)
    raw = bytearray(image.to_bytes())
    raw[112:120] = struct.pack("<2f", 0.5, -3)
    (tmp_path / "a.nii").write_bytes(raw)
    np.testing.assert_allclose(load_volume(tmp_path / "a.nii").array, VOXELS * 0.5 - 3)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_one_slice_along_any_axis(tmp_path, axis):
    voxels = VOXELS.take([2], axis)
    nib.save(nib.Nifti1Image(voxels, AFFINE), tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(load_volume(tmp_path / "a.nii.gz").array, voxels)


@pytest.mark.parametrize("factor", [1.0000001, 0.99999, 1.0])
def test_labels_a_rounding_away_from_whole_numbers(tmp_path, factor):
    labels = (VOXELS % 3).astype(np.float32)
    nib.save(nib.Nifti1Image(labels * np.float32(factor), AFFINE), tmp_path / "a.nii.gz")
    mask = load_mask(tmp_path / "a.nii.gz").array
    assert mask.dtype == np.int32
    np.testing.assert_array_equal(mask, labels)


@pytest.mark.parametrize("value", [1.01, 0.5, 1e9])
def test_what_is_no_label(tmp_path, value):
    nib.save(nib.Nifti1Image(np.full((3, 4, 5), value, np.float32), AFFINE), tmp_path / "a.nii.gz")
    with pytest.raises(ValueError, match="a.nii.gz: expected (whole )?label values"):
        load_mask(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("shape", [(30000, 30000, 30000), (32767, 32767, 1), (2000, 2000, 500)])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_sizes_that_the_file_cannot_hold(tmp_path, shape, name):
    raw = bytearray(nib.Nifti1Image(VOXELS, AFFINE).to_bytes())
    raw[40:48] = struct.pack("<4h", 3, *shape)
    (tmp_path / name).write_bytes(gzip.compress(raw) if name.endswith("gz") else raw)
    for read in (load_volume, read_grid):
        with pytest.raises(ValueError, match=f"{name}: its header tells of {shape[0]} x .* voxels, more than a file"):
            read(tmp_path / name)


def test_sizes_that_a_nrrd_file_cannot_hold(tmp_path):
    header = "NRRD0004\ntype: short\ndimension: 3\nsizes: 20000 20000 20000\nencoding: gzip\nendian: little\n\n"
    (tmp_path / "a.nrrd").write_bytes(header.encode() + gzip.compress(bytes(64)))
    with pytest.raises(ValueError, match="a.nrrd: its header tells of 20000 x 20000 x 20000 voxels"):
        load_volume(tmp_path / "a.nrrd")
    itk.imwrite(itk.image_from_array(VOXELS), tmp_path / "b.nrrd")
    assert load_volume(tmp_path / "b.nrrd").shape == VOXELS.shape[::-1]


@pytest.mark.parametrize("shear", [0.0, 0.15, -0.4])
def test_both_forms_of_a_written_file_say_the_same(tmp_path, shear):
    affine = AFFINE.copy()
    affine[0, 1] = shear
    write_nifti(VOXELS, affine, tmp_path / "a.nii.gz")
    image = nib.load(tmp_path / "a.nii.gz")
    np.testing.assert_allclose(image.get_sform(), affine, atol=1e-6)
    form, code = image.get_qform(coded=True)
    assert (code == 0) == (shear != 0)
    assert form is None or np.allclose(form, affine, atol=1e-5)
