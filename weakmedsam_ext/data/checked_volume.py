"""Check one image or mask file by itself."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass, field

import nibabel as nib
import numpy as np

from .intensity import check_contrast
from .io import Grid, Volume, load_mask, load_volume, read_grid
from .problems import Problem

__all__ = ["CheckedVolume", "affine_problem", "check_image", "check_mask", "problem_of"]

MAX_VOXEL_SIZE = 100.0  # mm; more is another unit or a damaged header
SINGULAR = 1e-6  # volume of a voxel, as a part of that of a box with the same sides


@dataclass
class CheckedVolume:
    """What a file holds, without its voxels, and what is wrong with it.

    Args:
        grid: None when the file cannot be read.
        digest: of the voxels of an image; None when they cannot be read or are constant.
        values: those in a mask; None when it cannot be read.
    """

    grid: Grid | None = None
    digest: str | None = None
    values: list[int] | None = None
    problems: list[Problem] = field(default_factory=list)


def check_image(case: str, path: str) -> CheckedVolume:
    """Check an image: readable, 3-D, finite, not constant, on a grid that can be."""
    checked = CheckedVolume()
    try:
        grid = read_grid(path)
        checked.grid = _without_voxels(grid)
        checked.problems += _grid_problems(case, grid)
        # other formats than NIfTI were decoded for the grid already
        array = (grid if isinstance(grid, Volume) else load_volume(path)).array
    except (OSError, ValueError) as error:
        checked.problems.append(problem_of(error, case, path))
        return checked
    try:
        check_contrast(array, path)
        checked.digest = _digest(array)
    except ValueError as error:
        checked.problems.append(problem_of(error, case, path))
    return checked


def check_mask(case: str, path: str) -> CheckedVolume:
    """Check a mask: readable, 3-D, whole numbers; `CheckedVolume.grid` is there for a mask with fractions too."""
    checked = CheckedVolume()
    try:
        mask = load_mask(path)
        checked.grid = _without_voxels(mask)
        checked.values = np.unique(mask.array).tolist()
    except (OSError, ValueError) as error:
        checked.problems.append(problem_of(error, case, path))
        with suppress(OSError, ValueError):  # said above
            checked.grid = _without_voxels(read_grid(path))
    return checked


def problem_of(error: Exception, case: str, path: str, remedy: str = "") -> Problem:
    """Problem from an error "file: what; remedy." of a reader.

    Args:
        error: of `load_volume` or a related function.
        case: name of the case.
        path: of the file.
        remedy: in place of the error's.
    """
    what, _, advice = str(error).rpartition("; ")
    what = (what or advice).removeprefix(path).lstrip(": ")
    return Problem(case, path, what, remedy or advice.removesuffix("."))


def affine_problem(affine: np.ndarray) -> str:
    """What is wrong with an affine; empty when it can be inverted and its voxel sizes can be."""
    if not np.isfinite(affine).all():
        return "its affine holds NaN or infinity"
    sizes = nib.affines.voxel_sizes(affine)
    if (sizes <= 0).any() or (sizes > MAX_VOXEL_SIZE).any():
        size = " x ".join(f"{size:g}" for size in sizes)
        return f"expected voxel sizes above 0 and up to {MAX_VOXEL_SIZE:g} mm, but got {size}"
    if abs(np.linalg.det(affine[:3, :3])) < SINGULAR * np.prod(sizes):
        return "its affine is singular: its axes lie in a plane"
    return ""


def _without_voxels(grid: Grid) -> Grid:
    return Grid(grid.path, grid.shape, grid.affine)


def _grid_problems(case: str, grid: Grid) -> list[Problem]:
    found = []
    wrong = affine_problem(grid.affine)
    if wrong:
        found.append(Problem(case, str(grid.path), wrong, "correct its header, or export the volume again"))
    if 1 in grid.shape:
        what = f"the volume is a single slice, of shape {grid.shape}"
        remedy = "check that no slice was lost, and put the slices of a scan in one file"
        found.append(Problem(case, str(grid.path), what, remedy, "warning"))
    return found


def _digest(array: np.ndarray) -> str:
    """Hash of shape and voxels: copies with another compression or header have the same one."""
    digest = hashlib.sha256(str(array.shape).encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
