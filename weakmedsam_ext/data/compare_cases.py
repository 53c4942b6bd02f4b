"""Problems that show only when the cases of a data set are compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import nibabel as nib
import numpy as np
from monai.utils import ensure_tuple

from .io import Grid
from .problems import Problem

__all__ = ["class_problems", "orientation_problems", "spacing_problems", "unmapped_problems"]

MAX_SPACING_RATIO = 3.0  # to the median of the data set
NUM_NAMED = 8  # label values that a problem shows


def orientation_problems(grids: Mapping[str, Grid]) -> list[Problem]:
    """Warn of cases whose axes point elsewhere than those of most.

    Args:
        grids: case -> grid of its image.
    """
    codes = {case: "".join(nib.aff2axcodes(grid.affine)) for case, grid in grids.items()}
    usual = Counter(codes.values()).most_common(1)[0][0] if codes else ""
    remedy = "look in a viewer whether left is left there, as a wrong header mirrors the patient"
    return [
        Problem(case, str(grids[case].path), f"its axes point to {code}, most others to {usual}", remedy, "warning")
        for case, code in codes.items()
        if code != usual
    ]


def spacing_problems(grids: Mapping[str, Grid]) -> list[Problem]:
    """Warn of cases whose voxels are three times larger or smaller than the median along an anatomical axis.

    Args:
        grids: case -> grid of its image.
    """
    sizes = {case: _anatomical_sizes(grid) for case, grid in grids.items()}
    median = np.median(list(sizes.values()), axis=0) if sizes else np.ones(3)
    found = []
    for case, size in sizes.items():
        if (np.maximum(size / median, median / size) > MAX_SPACING_RATIO).any():
            what = f"its voxel size {_text(size)} mm differs much from the median {_text(median)} mm"
            remedy = "check its header, or leave the case out"
            found.append(Problem(case, str(grids[case].path), what, remedy, "warning"))
    return found


def class_problems(
    masks: Mapping[str, tuple[str, Sequence[int]]],
    class_map: Mapping[str, int | Sequence[int]],
    setting: str = "class_map",
) -> list[Problem]:
    """Classes that no mask shows: an error, or a warning where other values show the class.

    Args:
        masks: case -> file and the values in it.
        class_map: class name -> value or values in the masks.
        setting: the name under which the user gave `class_map`.
    """
    seen = {value for _, values in masks.values() for value in values}
    found = []
    for name, wanted in class_map.items():
        lacking = [value for value in ensure_tuple(wanted) if value not in seen]
        if lacking and masks:
            held = _named(sorted(seen)).removeprefix("value ")
            what = f"{setting}: {_named(lacking)} of {name!r} occurs in none of {len(masks)} masks, which hold [{held}]"
            severity = "error" if len(lacking) == len(ensure_tuple(wanted)) else "warning"
            found.append(Problem("", "", what, f"correct {setting}, or add a case that shows it", severity))
    return found


def unmapped_problems(masks: Mapping[str, tuple[str, Sequence[int]]], mapped: set[int]) -> list[Problem]:
    """Warn of label values of no class, once for all values that the same masks hold.

    Args:
        masks: case -> file and the values in it.
        mapped: values of some class.
    """
    holders: dict[int, list[str]] = {}
    for case, (_, values) in masks.items():
        for value in set(values) - mapped - {0}:
            holders.setdefault(value, []).append(case)
    groups: dict[tuple[str, ...], list[int]] = {}
    for value, cases in sorted(holders.items()):
        groups.setdefault(tuple(cases), []).append(value)
    found = []
    for together, values in groups.items():
        others = f" (and of {len(together) - 1} other masks)" if len(together) > 1 else ""
        what = f"{_named(values)} of this mask{others} is in no class of class_map and counts as background"
        remedy = "add it to class_map if it shows a class"
        found.append(Problem(together[0], masks[together[0]][0], what, remedy, "warning"))
    return found


def _anatomical_sizes(grid: Grid) -> np.ndarray:
    """Voxel sizes in mm from left to right, back to front and below to above, however the array is stored."""
    sizes = np.empty(3)
    sizes[nib.io_orientation(grid.affine)[:, 0].astype(int)] = nib.affines.voxel_sizes(grid.affine)
    return sizes


def _text(sizes: np.ndarray) -> str:
    return " x ".join(f"{size:.3g}" for size in sizes)


def _named(values: Sequence[int]) -> str:
    return "value " + ", ".join(map(str, values[:NUM_NAMED])) + (", ..." if len(values) > NUM_NAMED else "")
