"""The weak bundle's inference writes masks voxel for voxel on the grid of the image, whatever that is."""

from __future__ import annotations

import itk
import nibabel as nib
import numpy as np
import pytest
import torch
from dicom_files import write_dicom_series
from heart_runs import BUNDLE

from weakmedsam_ext.bundle import training_workflow
from weakmedsam_ext.data import load_volume

SHAPE = (20, 14, 6)
ORIGIN = [12.0, -34.0, 56.0]


def oblique(degrees=(20, 30, 10)):
    """Rotation about all three axes."""
    matrix = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(degrees)):
        one, two = (k for k in range(3) if k != axis)
        turn = np.eye(3)
        turn[one, one] = turn[two, two] = np.cos(angle)
        turn[one, two], turn[two, one] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    return matrix


def grid(directions, spacing):
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(directions) @ np.diag(spacing)
    affine[:3, 3] = ORIGIN
    return affine


def volume(shape):
    """Dark noise and a bright object that no flip or exchange of axes maps to itself."""
    generator = np.random.default_rng(0)
    array = generator.integers(0, 40, shape)
    bright = np.zeros(shape, bool)
    bright[2:12, 3:6] = True
    bright[2:5, 3:11, : max(1, shape[2] // 2)] = True
    return np.where(bright, generator.integers(70, 100, shape), array), bright


GRIDS = {
    "ras": (SHAPE, grid(np.eye(3), (1, 1, 1))),
    "lps": (SHAPE, grid(np.diag([-1, -1, 1]), (1, 1, 1))),
    "oblique": (SHAPE, grid(oblique(), (0.7, 0.9, 2.5))),
    "anisotropic": (SHAPE, grid(np.eye(3), (0.4, 0.8, 6.0))),
    "all axes negative": (SHAPE, grid(-np.eye(3), (0.8, 0.7, 2.0))),
    "left-handed": (SHAPE, grid(np.diag([1, 1, -1]), (0.8, 0.7, 2.0))),
    "axes exchanged": ((6, 20, 14), grid(np.eye(3)[:, [2, 0, 1]], (2.0, 0.8, 0.7))),
    "one slice": ((20, 14, 1), grid(np.diag([-1, 1, 1]), (0.8, 0.7, 2.0))),
}


@pytest.fixture(scope="module")
def threshold(tmp_path_factory):
    """Weights of a network that calls a pixel an object from half of the intensity on."""
    path = tmp_path_factory.mktemp("weights") / "model.pt"
    weight = torch.tensor([0.0, 1000.0])
    torch.save({"weight": weight.reshape(2, 1, 1, 1), "bias": -weight / 2}, path)
    return path


def segment(image, folder, threshold):
    """Mask that the bundle's inference writes, as nibabel reads it."""
    workflow = training_workflow(
        BUNDLE / "configs",
        "inference.json",
        bundle_root=str(BUNDLE),
        output_dir=str(folder),
        datalist=[str(image)],
        ckpt_path=str(threshold),
        network_def={"_target_": "torch.nn.Conv2d", "in_channels": 1, "out_channels": 2, "kernel_size": 1},
        roi_size=16,
        device="cpu",
    )
    workflow.run()
    (written,) = (folder / "predictions").iterdir()
    return nib.load(written)


def check(mask, bright, affine):
    array = np.asarray(mask.dataobj)
    assert array.dtype == np.uint8 and array.shape == bright.shape
    np.testing.assert_array_equal(array, bright)
    np.testing.assert_allclose(mask.affine, affine, atol=1e-4)
    assert int(mask.header["sform_code"]) > 0 and mask.header.get_zooms() == pytest.approx(
        np.linalg.norm(affine[:3, :3], axis=0), abs=1e-4
    )


@pytest.mark.parametrize("name", GRIDS)
def test_grids(tmp_path, threshold, name):
    shape, affine = GRIDS[name]
    array, bright = volume(SHAPE if name == "axes exchanged" else shape)
    if name == "axes exchanged":
        array, bright = (np.moveaxis(one, 2, 0) for one in (array, bright))
    nib.save(nib.Nifti1Image(array.astype(np.float32), affine), tmp_path / "a.nii.gz")
    check(segment(tmp_path / "a.nii.gz", tmp_path / "out", threshold), bright, affine)


@pytest.mark.parametrize("kind", ["int8", "uint16", "float64", ">i2", ">f4"])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_types_of_voxels(tmp_path, threshold, kind, ending):
    affine = GRIDS["oblique"][1]
    array, bright = volume(SHAPE)
    image = nib.Nifti1Image(array.astype(kind), affine)
    if kind.startswith(">"):
        image = nib.Nifti1Image(array.astype(kind), affine, nib.Nifti1Header(endianness=">"))
        image.header.set_data_dtype(kind)
    nib.save(image, tmp_path / f"a{ending}")
    stored = nib.load(tmp_path / f"a{ending}")
    assert stored.header.endianness == (">" if kind.startswith(">") else "<")
    assert stored.get_data_dtype().newbyteorder("=") == np.dtype(kind).newbyteorder("=")
    check(segment(tmp_path / f"a{ending}", tmp_path / "out", threshold), bright, affine)


@pytest.mark.parametrize("name", ["ras", "lps", "oblique", "anisotropic", "one slice"])
def test_dicom_series(tmp_path, threshold, name):
    shape, affine = GRIDS[name]
    if np.linalg.det(affine[:3, :3]) < 0:  # DICOM has right-handed axes only
        affine = affine @ np.diag([1, -1, 1, 1])
    array, bright = volume(shape)
    folder = write_dicom_series(tmp_path / "1.2.840.113", array, affine)
    check(segment(folder, tmp_path / "out", threshold), bright, affine)
    assert [path.name for path in (tmp_path / "out/predictions").iterdir()] == ["1.2.840.113.nii.gz"]


def test_picture(tmp_path, threshold):
    array, bright = volume((20, 14, 1))
    rows = np.ascontiguousarray(array[..., 0].T.astype(np.uint8))
    itk.imwrite(itk.image_from_array(rows), str(tmp_path / "a.png"))
    mask = segment(tmp_path / "a.png", tmp_path / "out", threshold)
    check(mask, bright, load_volume(tmp_path / "a.png").affine)
    np.testing.assert_array_equal(mask.affine, np.diag([-1, -1, 1, 1]))
