"""DICOM series, PNG and JPEG as volumes."""

from __future__ import annotations

import os

import itk
import nibabel as nib
import numpy as np
import pytest
import torch
from dicom_files import write_dicom_series
from monai.data import ITKReader
from monai.transforms import LoadImage, LoadImaged, SaveImaged

from weakmedsam_ext.bundle import RunKey
from weakmedsam_ext.data import HashCache, check_same_grid, content_hash, image_items, load_mask, load_volume, read_grid
from weakmedsam_ext.data.datasets.decathlon import case_name
from weakmedsam_ext.data.image_io import name_of_output
from weakmedsam_ext.data.io import write_nifti

READER = "weakmedsam_ext.data.CheckedReader"
OBLIQUE = np.array([[-0.5, 0, 0, 10], [0, -0.56, 1.2, -20], [0, 0.42, 1.6, 30], [0, 0, 0, 1]])
PLANE = np.diag([-1.0, -1.0, 1.0, 1.0])


def voxels(shape=(7, 5, 4)):
    return np.random.default_rng(0).integers(-100, 1000, shape).astype(np.int16)


def write_picture(path, array):
    """Rows and columns, and colours where there are any."""
    itk.imwrite(itk.image_from_array(array, is_vector=array.ndim == 3), str(path))
    return path


@pytest.mark.parametrize("ending", [".dcm", ".DCM", ""])
@pytest.mark.parametrize("affine", [OBLIQUE, np.diag([0.8, 0.9, 3.0, 1.0]), np.diag([-0.8, -0.9, 3.0, 1.0])])
def test_a_dicom_folder_is_a_volume(tmp_path, ending, affine):
    folder = write_dicom_series(tmp_path / "series1", voxels(), affine, ending=ending)
    for name in ("notes.txt", ".hidden.dcm", "DICOMDIR"):
        (folder / name).write_text("no image")
    volume = load_volume(folder)
    assert volume.array.dtype == np.float32 and read_grid(folder).shape == (7, 5, 4)
    np.testing.assert_array_equal(volume.array, voxels())
    np.testing.assert_allclose(volume.affine, affine, atol=1e-6)
    theirs = LoadImage(reader=ITKReader())(folder)
    np.testing.assert_array_equal(theirs.numpy(), voxels())
    np.testing.assert_allclose(theirs.affine, affine, atol=1e-6)


def test_one_dicom_file_is_one_slice_and_tells_nothing_of_the_patient(tmp_path):
    folder = write_dicom_series(tmp_path / "a", voxels(), OBLIQUE)
    image = LoadImage(reader=READER)(folder / "IM002.dcm")  # files are named against the order of the slices
    np.testing.assert_array_equal(image.numpy(), voxels()[:, :, 2:3])
    np.testing.assert_allclose(image.affine[:3, 3], (OBLIQUE @ [0, 0, 2, 1])[:3], atol=1e-6)
    np.testing.assert_allclose(image.affine[:3, :3], OBLIQUE[:3, :3], atol=1e-6)
    assert "Nobody" not in str(image.meta)


def test_the_same_voxels_as_nifti_and_dicom_lie_on_one_grid(tmp_path):
    folder = write_dicom_series(tmp_path / "a", voxels(), OBLIQUE)
    write_nifti((voxels() > 500).astype(np.uint8), OBLIQUE, tmp_path / "mask.nii.gz")
    check_same_grid(read_grid(folder), load_mask(tmp_path / "mask.nii.gz"))


def test_what_is_no_series_is_told(tmp_path, capfd):
    (tmp_path / "case.nii.gz").mkdir()  # as some programs unpack
    (tmp_path / "case.nii.gz" / "case.nii").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="case.nii.gz is a folder without DICOM files; give an image file, or"):
        load_volume(tmp_path / "case.nii.gz")
    two = write_dicom_series(tmp_path / "two", voxels(), OBLIQUE)
    write_dicom_series(two, voxels(), OBLIQUE, series="1.2.3", ending="b.dcm")
    with pytest.raises(ValueError, match="two holds 2 DICOM series; put each into a folder of its own"):
        load_volume(two)
    gap = write_dicom_series(tmp_path / "gap", voxels(), OBLIQUE, leave_out=[1])
    with pytest.raises(ValueError, match="gap: its 3 slices are not evenly spaced; export all slices"):
        LoadImage(reader=READER)(gap)
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.dcm").write_text("no image")
    with pytest.raises(ValueError, match="text holds DICOM files without images; export the series again"):
        load_volume(tmp_path / "text")
    with pytest.raises(ValueError, match="a.dcm is damaged or no medical volume"):
        load_volume(tmp_path / "text" / "a.dcm")
    assert "WARNING" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("name", ["a.png", "a.PNG"])
def test_grey_png_is_a_volume_of_one_slice(tmp_path, kind, name):
    grey = np.random.default_rng(0).integers(0, np.iinfo(kind).max, (5, 7)).astype(kind)
    write_picture(tmp_path / "b.png", grey).rename(tmp_path / name)
    volume = load_volume(tmp_path / name)
    np.testing.assert_array_equal(volume.array, grey.T[..., None])
    np.testing.assert_array_equal(volume.affine, PLANE)


@pytest.mark.parametrize("shape", [(1, 7), (5, 1), (1, 1)])
def test_a_picture_of_one_row_keeps_its_axes(tmp_path, shape):
    line = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    image = itk.Image[itk.UC, 2].New()  # from such an array ITK exchanges the axes
    image.SetRegions(list(shape[::-1]))
    image.Allocate()
    itk.array_view_from_image(image)[:] = line
    itk.imwrite(image, str(tmp_path / "a.png"))
    np.testing.assert_array_equal(load_volume(tmp_path / "a.png").array[..., 0].T, line)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [3, 4])
def test_colour_becomes_the_mean_of_the_channels(tmp_path, kind, channels):
    colour = np.random.default_rng(0).integers(0, np.iinfo(kind).max, (5, 7, channels)).astype(kind)
    image = LoadImaged("image", reader=READER, ensure_channel_first=True)(
        {"image": write_picture(tmp_path / "a.png", colour)}
    )["image"]
    assert image.shape == (1, 7, 5, 1) and image.dtype == torch.float32
    np.testing.assert_allclose(image[0, ..., 0].T, colour[..., :3].astype(float).mean(-1), rtol=1e-6)


def test_grey_in_three_channels_is_exact(tmp_path):
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    mask = load_mask(write_picture(tmp_path / "a.png", np.stack([grey] * 3, -1)))
    np.testing.assert_array_equal(mask.array[..., 0].T, grey)


@pytest.mark.parametrize("name", ["a.jpg", "a.jpeg"])
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg(tmp_path, name, channels):
    flat = np.full((16, 24, 3), (60, 90, 120), np.uint8) if channels == 3 else np.full((16, 24), 90, np.uint8)
    volume = load_volume(write_picture(tmp_path / name, flat))
    assert volume.shape == (24, 16, 1)
    np.testing.assert_allclose(volume.array, 90, atol=2)


def test_a_damaged_picture_is_told(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(ValueError, match="a.png is damaged or no medical volume"):
        load_volume(tmp_path / "a.png")


def test_pictures_have_no_place_in_space(tmp_path):
    mask = load_mask(write_picture(tmp_path / "mask.png", np.zeros((5, 7), np.uint8)))
    write_nifti(np.zeros((7, 5, 1), np.float32), np.diag([0.3, 0.3, 1, 1]), tmp_path / "a.nii.gz")
    check_same_grid(read_grid(tmp_path / "a.nii.gz"), mask)
    write_nifti(np.zeros((5, 7, 1), np.float32), PLANE, tmp_path / "b.nii.gz")
    with pytest.raises(ValueError, match=r"mask.png: expected the shape \(5, 7, 1\)"):
        check_same_grid(read_grid(tmp_path / "b.nii.gz"), mask)


def test_nifti_of_complex_numbers_or_colours_is_refused(tmp_path):
    nib.save(nib.Nifti1Image(np.ones((3, 4, 5), np.complex64), np.eye(4)), tmp_path / "c.nii.gz")
    colour = np.zeros((3, 4, 5), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(colour, np.eye(4)), tmp_path / "rgb.nii.gz")
    with pytest.raises(ValueError, match="c.nii.gz: its voxels are complex numbers"):
        load_volume(tmp_path / "c.nii.gz")
    with pytest.raises(ValueError, match="rgb.nii.gz: its voxels are colours"):
        load_volume(tmp_path / "rgb.nii.gz")


@pytest.mark.parametrize("number", [1, 3])
def test_colours_are_refused_in_dicom_and_nrrd(tmp_path, number):
    image = itk.image_from_array(np.zeros((1, 4, 5, 3), np.uint8), is_vector=True)
    names = [tmp_path / "s" / f"{index}.dcm" for index in range(number)]
    names[0].parent.mkdir()
    itk.imwrite(image, str(tmp_path / "a.nrrd"))
    writer = itk.ImageFileWriter[type(image)].New(Input=image, ImageIO=itk.GDCMImageIO.New())  # one codec, one series
    for name in names:
        writer.SetFileName(str(name))
        writer.Update()
    for name in (names[0], names[0].parent, tmp_path / "a.nrrd"):
        with pytest.raises(ValueError, match="expected one grey value a voxel, but got 3; save colour images as PNG"):
            load_volume(name)


@pytest.mark.parametrize("name", ["1.2.840.113", "series1", "scan.2020"])
def test_results_are_named_like_the_dicom_folder(tmp_path, name):
    folder = write_dicom_series(tmp_path / name, voxels(), OBLIQUE)
    assert case_name(folder) == name and image_items([folder]) == [{"image": str(folder)}]
    image = LoadImaged("image", reader=READER, ensure_channel_first=True)({"image": folder})
    save = SaveImaged(
        "image",
        output_dir=tmp_path / "out",
        output_postfix="",
        separate_folder=False,
        resample=False,
        output_name_formatter=name_of_output,
        writer="weakmedsam_ext.data.AtomicNibabelWriter",
    )
    save(image)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [f"{name}.nii.gz"]


def test_a_folder_is_hashed_by_the_names_and_contents_of_its_files(tmp_path):
    folder = write_dicom_series(tmp_path / "a", voxels(), OBLIQUE)
    for path in folder.iterdir():
        os.utime(path, (1e9, 1e9))
    cache, first = HashCache(tmp_path / "hashes.json"), content_hash(folder)
    assert cache(folder) == first and (tmp_path / "hashes.json").exists()

    def key():
        return RunKey(tmp_path / "run", inputs=[str(folder)], config="").digest

    (folder / ".DS_Store").write_text("of a Mac")
    same = key()
    assert HashCache(tmp_path / "hashes.json")(folder) == content_hash(folder) == first
    (folder / "IM001.dcm").rename(folder / "IM009.dcm")
    renamed = content_hash(folder)
    content = bytearray((folder / "IM009.dcm").read_bytes())
    content[-1] ^= 1
    (folder / "IM009.dcm").write_bytes(content)
    changed = HashCache(tmp_path / "hashes.json")(folder)
    assert len({first, renamed, changed}) == 3 and key() != same
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="empty is a folder without files; correct the path"):
        content_hash(tmp_path / "empty")
