"""Items of a data set: {"case", "image"} and, where there is a mask, "label"."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.utils import ImageMetaKey, ensure_tuple

__all__ = ["case_name", "image_file", "images_of", "prediction_path"]


def images_of(item: Mapping[str, Any]) -> list[str]:
    """Paths of the images of a case, one a channel."""
    return [str(path) for path in ensure_tuple(item["image"])]


def image_file(image: Any) -> str:
    """File that an image in memory was read from, for errors; "image" where it has no metadata that says so."""
    return str(getattr(image, "meta", {}).get(ImageMetaKey.FILENAME_OR_OBJ, "image"))


def case_name(path: str | Path) -> str:
    """Case name of an image: "la_003" for imagesTr/la_003.nii.gz, all of its name for the folder of a DICOM series."""
    path = Path(path)
    if os.path.isdir(path):  # identifiers of DICOM series have dots; a name that is too long is no folder
        return path.name
    return path.name.removesuffix(".gz").rpartition(".")[0] or path.name


def prediction_path(folder: str | Path, item: Mapping[str, Any]) -> Path:
    """Path of the mask of a case in a folder of predictions, which are named after the case or after its first image.

    Returns:
        the file that exists; `<case>.nii.gz` when there is none.
    """
    names = [item["case"]] + ([case_name(images_of(item)[0])] if "image" in item else [])
    files = [Path(folder) / f"{name}{ending}" for name in names for ending in (".nii.gz", ".nii")]
    return next(filter(Path.is_file, files), files[0])
