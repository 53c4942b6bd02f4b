from __future__ import annotations

import errno
import os

import itk
import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, EnsureChannelFirstd, LoadImage, LoadImaged, SaveImage

from weakmedsam_ext.data import CheckedReader

READER = "weakmedsam_ext.data.CheckedReader"
WRITER = "weakmedsam_ext.data.AtomicNibabelWriter"
AFFINE = np.array([[-0.6, 0, 0, 10], [0, -0.6, 0, -20], [0, 0, 2.5, 30], [0, 0, 0, 1]])


def volume(shape=(5, 6, 7)):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "a.nrrd", "a.mha"])
def test_the_reader_gives_what_monais_own_gives(tmp_path, name):
    if ".nii" in name:
        nib.save(nib.Nifti1Image(volume(), AFFINE), tmp_path / name)
    else:
        image = itk.image_from_array(volume())
        image.SetSpacing([0.6, 0.6, 2.5])
        itk.imwrite(image, str(tmp_path / name))
    ours = LoadImaged("image", reader=READER)({"image": tmp_path / name})["image"]
    theirs = LoadImage()(tmp_path / name)
    assert ours.dtype == torch.float32
    np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-6)
    assert ours.meta["filename_or_obj"] == str(tmp_path / name) and ours.meta["space"] == theirs.meta["space"]


def test_several_files_are_channels_and_each_is_read_once(tmp_path, monkeypatch):
    paths = [tmp_path / name for name in ("flair.nii.gz", "t1.nii.gz")]
    for factor, path in zip((1, -2), paths, strict=True):
        nib.save(nib.Nifti1Image(factor * volume(), AFFINE), path)
    read, load = [], nib.load
    monkeypatch.setattr("nibabel.load", lambda path, **arguments: read.append(str(path)) or load(path, **arguments))
    item = Compose([LoadImaged("image", reader=READER), EnsureChannelFirstd("image")])({"image": paths})
    assert sorted(read) == sorted(map(str, paths))
    np.testing.assert_array_equal(item["image"].numpy(), np.stack([volume(), -2 * volume()]))
    np.testing.assert_allclose(item["image"].affine, AFFINE, atol=1e-6)


def test_channels_on_different_grids_are_refused(tmp_path):
    paths = [tmp_path / name for name in ("flair.nii.gz", "t1.nii.gz")]
    for shape, path in zip(((5, 6, 7), (5, 6, 8)), paths, strict=True):
        nib.save(nib.Nifti1Image(volume(shape), AFFINE), path)
    with pytest.raises(ValueError, match=r"t1.nii.gz: expected the shape \(5, 6, 7\) of .*flair.nii.gz"):
        CheckedReader().get_data(tuple(paths))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.where(volume() > 2, np.inf, volume()), "a.nii.gz: [0-9]+ voxels are NaN or infinite; replace them"),
        (
            volume((5, 6, 7, 2)),
            r"a.nii.gz: expected a 3-D volume, but got shape \(5, 6, 7, 2\); give one volume a file",
        ),
    ],
)
def test_the_reader_refuses_what_no_network_can_use(tmp_path, array, message):
    nib.save(nib.Nifti1Image(array, AFFINE), tmp_path / "a.nii.gz")
    with pytest.raises(ValueError, match=message):
        LoadImage(reader=READER)(tmp_path / "a.nii.gz")


def test_the_reader_says_what_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.nii.gz does not exist; correct the path"):
        LoadImage(reader=READER)(tmp_path / "none.nii.gz")


def save(folder, array):
    image = MetaTensor(torch.from_numpy(array)[None], affine=AFFINE, meta={"filename_or_obj": "case 1.nii.gz"})
    SaveImage(folder, "", ".nii.gz", separate_folder=False, output_dtype=np.uint8, resample=False, writer=WRITER)(image)


def test_the_writer_writes_what_monais_own_writes(tmp_path):
    mask = (volume() > 0).astype(np.uint8)
    save(tmp_path, mask)
    image = nib.load(tmp_path / "case 1.nii.gz")
    assert image.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(image.dataobj), mask)
    np.testing.assert_allclose(image.affine, AFFINE, atol=1e-5)
    assert [path.name for path in tmp_path.iterdir()] == ["case 1.nii.gz"]


@pytest.mark.parametrize("shape", [(5, 6, 1), (1, 6, 1), (1, 1, 1)])
def test_a_volume_of_one_slice_stays_a_volume(tmp_path, shape):
    save(tmp_path, np.ones(shape, np.uint8))
    assert nib.load(tmp_path / "case 1.nii.gz").shape == shape


def test_channels_stay_last(tmp_path):
    image = MetaTensor(torch.arange(24.0).reshape(2, 3, 4, 1), affine=AFFINE, meta={"filename_or_obj": "a.nii.gz"})
    SaveImage(tmp_path, "", ".nii.gz", separate_folder=False, resample=False, writer=WRITER)(image)
    np.testing.assert_array_equal(nib.load(tmp_path / "a.nii.gz").get_fdata(), image.movedim(0, -1).numpy())


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    save(tmp_path, np.ones((2, 2, 2), np.uint8))

    def full(image, path):
        path.write_bytes(b"half a file")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("nibabel.save", full)
    with pytest.raises(RuntimeError, match=f"No space left on device: '{tmp_path}/case 1.nii.gz'"):
        save(tmp_path, np.zeros((2, 2, 2), np.uint8))
    assert [path.name for path in tmp_path.iterdir()] == ["case 1.nii.gz"]
    assert np.asarray(nib.load(tmp_path / "case 1.nii.gz").dataobj).all()
