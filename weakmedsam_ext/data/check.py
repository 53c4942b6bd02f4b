"""Check a whole data set before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.utils import ensure_tuple

from .cases import images_of
from .checked_volume import CheckedVolume, affine_problem, check_image, check_mask, problem_of
from .class_map import check_class_map
from .compare_cases import class_problems, orientation_problems, spacing_problems, unmapped_problems
from .io import Grid, check_same_grid
from .problems import Problem
from .progress import show_progress

__all__ = ["check_dataset"]

ClassMap = Mapping[str, int | Sequence[int]]


def check_dataset(
    cases: Sequence[Mapping[str, Any]],
    class_map: ClassMap | None = None,
    read_masks: bool = True,
    progress: bool = True,
) -> list[Problem]:
    """Find all problems of a data set, not only the first; one volume at a time is in memory.

    Errors are files that are missing, damaged or not 3-D, voxels that are NaN, infinite or all the same, voxel sizes
    and affines that cannot be, images and masks of a case on different grids, masks with fractions, classes that
    occur in no mask, and images with the same voxels. Warnings are volumes of one slice, voxel sizes and orientations
    that differ much from those of the other cases, masks without a labelled voxel, and label values of no class.

    Args:
        cases: items of `list_cases`.
        class_map: class name -> value or values in the masks; without, values are not checked.
        read_masks: whether masks are opened; no mask file is touched otherwise.
        progress: show a progress bar.

    Returns:
        errors, then warnings, each in the order of the cases.

    Raises:
        ValueError: see `check_class_map`.
    """
    check_class_map({} if class_map is None else class_map)
    survey = _Survey(class_map or {})
    for item in show_progress(cases, "check", "case", enabled=progress):
        survey.add(item, read_masks)
    found = [*survey.problems, *orientation_problems(survey.grids), *spacing_problems(survey.grids)]
    if class_map:
        found += class_problems(survey.masks, class_map) + unmapped_problems(survey.masks, class_map)
    order = {str(item["case"]): number for number, item in enumerate(cases)}
    return sorted(found, key=lambda problem: (not problem.is_error, order.get(problem.case, len(order))))


class _Survey:
    """Problems of the cases so far, and what is known of them to compare later ones with."""

    def __init__(self, class_map: ClassMap) -> None:
        self.mapped = {int(value) for values in class_map.values() for value in ensure_tuple(values)}
        self.problems: list[Problem] = []
        self.grids: dict[str, Grid] = {}  # of the first image of every case
        self.masks: dict[str, tuple[str, list[int]]] = {}  # case -> file and its values
        self._digests: dict[str, tuple[str, str]] = {}  # of an image -> case and file

    def add(self, item: Mapping[str, Any], read_masks: bool) -> None:
        """Check a case."""
        case = str(item["case"])
        paths = [str(Path(path)) for path in images_of(item)]
        images = [self._checked(check_image(case, path)) for path in paths]
        for path, image in zip(paths, images, strict=True):
            self._find_copy(case, path, image)
        grid = images[0].grid
        if grid is not None and not affine_problem(grid.affine):
            self.grids[case] = grid
            for path, image in zip(paths[1:], images[1:], strict=True):
                remedy = "resample it to the first image of the case, or pair the right files"
                self._compare_grids(case, path, grid, image.grid, remedy)
        if read_masks and "label" in item:
            self._add_mask(case, str(Path(item["label"])))

    def _checked(self, volume: CheckedVolume) -> CheckedVolume:
        self.problems += volume.problems
        return volume

    def _find_copy(self, case: str, path: str, image: CheckedVolume) -> None:
        if image.digest is None:
            return
        first = self._digests.setdefault(image.digest, (case, path))
        if first != (case, path):
            remedy = "remove one of them, as training and test must not share a patient"
            self.problems.append(Problem(case, path, f"has the same voxels as {first[1]} of case {first[0]!r}", remedy))

    def _add_mask(self, case: str, path: str) -> None:
        mask = self._checked(check_mask(case, path))
        if case in self.grids:
            self._compare_grids(case, path, self.grids[case], mask.grid)
        if mask.values is None:
            return
        self.masks[case] = (path, mask.values)
        if not (self.mapped.intersection(mask.values) if self.mapped else any(mask.values)):
            of = " of class_map" if self.mapped else ""
            what = f"no voxel of the mask has a label{of}"
            self.problems.append(Problem(case, path, what, "check that nothing is to be seen in this case", "warning"))

    def _compare_grids(self, case: str, path: str, first: Grid, other: Grid | None, remedy: str = "") -> None:
        try:
            if other is not None:
                check_same_grid(first, other)
        except ValueError as error:
            self.problems.append(problem_of(error, case, path, remedy))
