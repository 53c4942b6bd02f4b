"""DICOM series for tests, written by ITK."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import itk
import numpy as np

TYPE = itk.Image[itk.SS, 3]


def write_dicom_series(
    folder: Path,
    array: np.ndarray,
    affine: np.ndarray,
    series: str = "1.2.826.0.1.3680043.2.1125.1",
    ending: str = ".dcm",
    leave_out: Sequence[int] = (),
) -> Path:
    """Write a series, one file a slice, named against the order of the slices.

    Args:
        folder: to write to.
        array: int16 (X, Y, Z).
        affine: from voxel indices to RAS millimetres.
        series: its identifier.
        ending: of the files.
        leave_out: numbers of slices that are missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    matrix = np.diag([-1.0, -1.0, 1.0]) @ affine[:3]  # DICOM speaks LPS
    spacing = np.linalg.norm(matrix[:, :3], axis=0)
    direction = matrix[:, :3] / spacing
    count = array.shape[2]
    for number in set(range(count)) - set(leave_out):
        image = itk.image_from_array(np.ascontiguousarray(array[:, :, number : number + 1].T.astype(np.int16)))
        image.SetSpacing([float(value) for value in spacing])
        image.SetOrigin([float(value) for value in matrix[:, 3] + matrix[:, 2] * number])
        image.SetDirection(itk.matrix_from_array(direction))
        tags = {
            "0008|0060": "MR",
            "0008|0018": f"{series}.{number + 1}",
            "0020|000d": "1.2.826.0.1.3680043.2.1125.9",
            "0020|000e": series,
            "0020|0013": str(number + 1),
            "0018|0088": f"{spacing[2]:.6f}",
            "0010|0010": "Nobody",
        }
        dictionary = image.GetMetaDataDictionary()
        for key, value in tags.items():
            dictionary[key] = value
        codec = itk.GDCMImageIO.New()
        codec.SetKeepOriginalUID(True)
        writer = itk.ImageFileWriter[TYPE].New()
        writer.SetInput(image)
        writer.SetImageIO(codec)
        writer.SetFileName(str(folder / f"IM{count - number:03d}{ending}"))
        writer.Update()
    return folder
