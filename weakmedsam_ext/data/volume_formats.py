"""Formats of images: which files are read, and how DICOM series and pictures become volumes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import itk
import numpy as np
from monai.data import ITKReader

from .nifti import check_plausible

__all__ = [
    "DICOM",
    "ITK",
    "NIFTI",
    "PICTURES",
    "check_grey",
    "check_itk_size",
    "dicom_series",
    "is_dicom",
    "is_dicom_folder",
    "is_picture",
    "is_volume_file",
    "read_dicom",
    "read_picture",
    "visible_files",
]

# formats that keep header and voxels in one file, so that its hash says everything; all of them hold numbers, no code
NIFTI = (".nii.gz", ".nii")
ITK = (".nrrd", ".mha")
PICTURES = (".png", ".jpg", ".jpeg")
DICOM = ".dcm"
DICOM_MARK = slice(128, 132), b"DICM"  # where a DICOM file says what it is
UNEVEN = 0.1  # of the slice distance: more is a missing slice, less is rounding in the headers


def is_picture(path: str | Path) -> bool:
    """Whether a file is named as PNG or JPEG."""
    return str(path).lower().endswith(PICTURES)


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its ending or, without any known ending, by its first bytes."""
    if path.name.lower().endswith(DICOM):
        return True
    if path.name.lower().endswith(NIFTI + ITK + PICTURES):
        return False
    where, mark = DICOM_MARK
    try:
        with path.open("rb") as file:
            return path.name.upper() != "DICOMDIR" and file.read(where.stop)[where] == mark
    except OSError:
        return False


def is_dicom_folder(path: Path) -> bool:
    """Whether a path is a folder that holds DICOM files directly."""
    try:
        return os.path.isdir(path) and any(map(is_dicom, visible_files(path)))
    except OSError:  # a text that is too long for a name, or a folder that may not be read
        return False


def is_volume_file(path: Path) -> bool:
    """Whether a file is NIfTI, NRRD, MetaImage, PNG or JPEG by its ending."""
    return path.name.endswith(NIFTI + ITK) or is_picture(path)


def visible_files(folder: Path) -> list[Path]:
    """Files directly in a folder, sorted by name, without hidden ones."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.is_file())


def dicom_series(folder: Path) -> list[str]:
    """Files of the one DICOM series in a folder, in the order of its slices.

    Raises:
        FileNotFoundError: when there is no DICOM file directly in the folder.
        ValueError: when the folder holds more than one series.
    """
    if not is_dicom_folder(folder):
        raise FileNotFoundError(
            f"{folder} is a folder without DICOM files; give an image file, or the folder that holds one DICOM series."
        )
    with _without_warnings():
        names = itk.GDCMSeriesFileNames.New()
        names.SetUseSeriesDetails(False)  # slices of one series may differ in rounding of details
        names.SetDirectory(str(folder))
        series = list(names.GetSeriesUIDs())
        if len(series) > 1:
            raise ValueError(f"{folder} holds {len(series)} DICOM series; put each into a folder of its own.")
        if not series:
            raise ValueError(f"{folder} holds DICOM files without images; export the series again.")
        return list(names.GetFileNames(series[0]))


def read_dicom(path: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """Voxels (X, Y, Z) and MONAI's metadata of a DICOM file or of the one series in a folder.

    Metadata holds the grid only: nothing of the patient leaves the headers.

    Raises:
        FileNotFoundError: see `dicom_series`.
        ValueError: see `dicom_series`; also when slices are missing, or for colours.
        RuntimeError: whatever ITK says about a damaged file.
    """
    files = dicom_series(path) if os.path.isdir(path) else [str(path)]
    if len(files) == 1:
        image = itk.imread(files[0])
        check_grey(image, path)
    else:
        reader = itk.ImageSeriesReader[itk.Image[itk.F, 3]].New(FileNames=files)
        codec = itk.GDCMImageIO.New()
        reader.SetImageIO(codec)
        reader.SetForceOrthogonalDirection(False)  # a tilted gantry shears the volume
        with _without_warnings():
            reader.Update()
        check_grey(codec, path)
        image = reader.GetOutput()
        found = image.GetMetaDataDictionary()
        uneven = "ITK_non_uniform_sampling_deviation"
        if found.HasKey(uneven) and found[uneven] > UNEVEN * image.GetSpacing()[2]:
            raise ValueError(f"{path}: its {len(files)} slices are not evenly spaced; export all slices of one series.")
    array, meta = ITKReader().get_data(image)
    return array, {key: value for key, value in meta.items() if "|" not in key}


def check_grey(image: Any, path: Path) -> None:
    """Check that an ITK image, or what reads it, has one number a voxel.

    Raises:
        ValueError: for colours and vectors.
    """
    # images say it by one name, readers of files by the other
    count = getattr(image, "GetNumberOfComponentsPerPixel", None) or image.GetNumberOfComponents
    if count() != 1:
        raise ValueError(f"{path}: expected one grey value a voxel, but got {count()}; save colour images as PNG.")


def check_itk_size(path: Path) -> None:
    """Check that a NRRD or MetaImage file can hold what its header tells of, see `check_plausible`.

    Raises:
        ValueError: when it cannot.
    """
    with _without_warnings():
        codec = itk.ImageIOFactory.CreateImageIO(str(path), itk.CommonEnums.IOFileMode_ReadMode)
        if codec is None:
            return  # the reader says what is wrong
        codec.SetFileName(str(path))
        codec.ReadImageInformation()
    shape = tuple(int(codec.GetDimensions(axis)) for axis in range(codec.GetNumberOfDimensions()))
    check_plausible(path, shape, int(codec.GetComponentSize() * codec.GetNumberOfComponents()))


def read_picture(path: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """Voxels (X, Y, 1) and MONAI's metadata of a PNG or JPEG file, 8 or 16 bit.

    Colour becomes luminance, the mean of the channels; transparency is ignored. Rows of the picture run along the
    second axis. The grid is ITK's for two dimensions, so x and y run to the left and to the back.

    Raises:
        RuntimeError: whatever ITK says about a damaged file.
    """
    reader = itk.ImageFileReader[itk.VectorImage[itk.F, 2]].New(FileName=str(path))
    reader.Update()
    picture = reader.GetOutput()
    channels = itk.array_from_image(picture)
    # grey with or without transparency, or colours with or without; equal colours have an exact mean, unlike weights
    colours = channels[..., : 1 if channels.shape[-1] < 3 else 3].astype(np.float64)
    image = itk.Image[itk.F, 3].New()
    image.SetRegions([channels.shape[1], channels.shape[0], 1])
    image.Allocate()
    itk.array_view_from_image(image)[0] = colours.mean(-1)
    image.SetSpacing([*picture.GetSpacing(), 1.0])
    image.SetOrigin([*picture.GetOrigin(), 0.0])
    array, meta = ITKReader().get_data(image)
    return np.array(array), meta  # the array is a view of an image that ends here


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Keep ITK from printing what an error says in one sentence."""
    shown = itk.Object.GetGlobalWarningDisplay()
    itk.Object.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        itk.Object.SetGlobalWarningDisplay(shown)
