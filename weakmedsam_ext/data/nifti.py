"""NIfTI files as their headers mean them: units of length, axes of one, voxels that are one number each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.data import NibabelReader

__all__ = ["check_plausible", "open_nifti", "read_nifti"]

MILLIMETRES = {"meter": 1000.0, "mm": 1.0, "micron": 0.001}  # of a header's unit; "unknown" is taken for mm
MAX_COMPRESSION = 1032  # of deflate: a byte of a .gz file never stands for more
SLACK = 1 << 16  # bytes that headers take


def open_nifti(path: str | Path) -> Any:
    """Open a file without its voxels: three axes, affine in millimetres.

    Axes of one voxel behind the third are dropped.

    Raises:
        ValueError: when voxels are complex numbers or colours, there are more axes, or the file cannot hold as many
            voxels as its header says.
        Exception: whatever nibabel meets in a damaged file.
    """
    image: Any = nib.load(path)
    dtype, shape = image.get_data_dtype(), tuple(map(int, image.shape))
    if dtype.kind == "c":
        raise ValueError(f"{path}: its voxels are complex numbers; save their magnitude.")
    if dtype.fields is not None:
        raise ValueError(f"{path}: its voxels are colours ({', '.join(dtype.fields)}); save one grey value a voxel.")
    if len(shape) < 3 or min(shape) < 1 or any(length > 1 for length in shape[3:]):
        raise ValueError(f"{path}: expected a 3-D volume, but got shape {shape}; give one volume a file.")
    check_plausible(path, shape, dtype.itemsize)
    return image


def read_nifti(path: str | Path) -> tuple[np.ndarray, dict[str, Any]]:
    """Voxels (X, Y, Z) and MONAI's metadata, see `open_nifti`."""
    image = open_nifti(path)
    reader = NibabelReader()
    reader.filenames = (str(path),)
    three = three_axes(image.shape)
    if three == image.shape and unit_of(image) == 1:
        return reader.get_data(image)
    # its own numbers stand for slope and intercept, which the header of a new image would lose
    array = np.asanyarray(image.dataobj).reshape(three)
    header = image.header.copy()
    header.set_data_dtype(array.dtype)
    header.set_xyzt_units("mm")
    fresh = nib.Nifti1Image(array, affine_of(image), header)
    array, meta = reader.get_data(fresh)
    return array, {**meta, "filename_or_obj": str(path)}


def three_axes(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Shape without axes of one voxel behind the third."""
    x, y, z = map(int, shape[:3])
    return x, y, z


def affine_of(image: Any) -> np.ndarray:
    """Affine from voxel indices to RAS millimetres."""
    affine = np.array(image.affine, dtype=np.float64)
    affine[:3] *= unit_of(image)
    return affine


def unit_of(image: Any) -> float:
    """Millimetres of the unit of length; 1 where the header names none or an unknown one."""
    try:
        return MILLIMETRES.get(image.header.get_xyzt_units()[0], 1.0)
    except (AttributeError, KeyError):  # other headers of nibabel have no units; an undefined code has no name
        return 1.0


def check_plausible(path: str | Path, shape: tuple[int, ...], itemsize: int) -> None:
    """Check that a file can hold the voxels that its header tells of, before memory is asked for.

    Raises:
        ValueError: when it cannot.
    """
    wanted, there = int(np.prod([*map(int, shape), itemsize], dtype=object)), Path(path).stat().st_size
    if wanted > there * MAX_COMPRESSION + SLACK:
        raise ValueError(
            f"{path}: its header tells of {' x '.join(map(str, shape))} voxels, more than a file of {there} bytes can "
            "hold; download, export or compute it again."
        )
