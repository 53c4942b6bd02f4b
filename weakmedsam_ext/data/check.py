"""Check a whole data set before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from .ranks import gather_shares, share

__all__ = ["check_dataset"]

ClassMap = Mapping[str, int | Sequence[int]]


def check_dataset(
    cases: Sequence[Mapping[str, Any]],
    class_map: ClassMap | None = None,
    read_masks: bool = True,
    progress: bool = True,
    structures: ClassMap | None = None,
) -> list[Problem]:
    """Find all problems of a data set, not only the first; one volume at a time is in memory.

    Errors are files that are missing, damaged or not 3-D, voxels that are NaN, infinite or all the same, voxel sizes
    and affines that cannot be, images and masks of a case on different grids, masks with fractions, classes that
    occur in no mask, and images with the same voxels. Warnings are volumes of one slice, voxel sizes and orientations
    that differ much from those of the other cases, masks without a labelled voxel, and label values of no class.

    Under torchrun, each process opens its share of the cases, and every process gets all problems.

    Args:
        cases: items of `list_cases`.
        class_map: class name -> value or values in the masks; without, values are not checked.
        read_masks: whether masks are opened; no mask file is touched otherwise.
        progress: show a progress bar.
        structures: further names and values that the masks must hold, of a promptable network's fine-tuning.

    Returns:
        errors, then warnings, each in the order of the cases.

    Raises:
        ValueError: see `check_class_map`.
    """
    given = {"class_map": class_map, "structures": structures}
    settings: dict[str, ClassMap] = {name: {} if classes is None else classes for name, classes in given.items()}
    for name, classes in settings.items():
        check_class_map(classes, name)
    mapped = {
        int(value) for classes in settings.values() for values in classes.values() for value in ensure_tuple(values)
    }
    survey = _Survey(mapped)
    opened = [_open_case(item, read_masks) for item in show_progress(share(cases), "check", "case", enabled=progress)]
    for case in gather_shares(opened):
        survey.add(case)
    found = [*survey.problems, *orientation_problems(survey.grids), *spacing_problems(survey.grids)]
    for name, classes in settings.items():
        found += class_problems(survey.masks, classes, name)
    if mapped:
        found += unmapped_problems(survey.masks, mapped)
    order = {str(item["case"]): number for number, item in enumerate(cases)}
    return sorted(found, key=lambda problem: (not problem.is_error, order.get(problem.case, len(order))))


@dataclass(frozen=True)
class _OpenedCase:
    """What the files of a case hold, without their voxels: small enough to be sent to other processes."""

    name: str
    images: list[tuple[str, CheckedVolume]]  # file and content
    mask: tuple[str, CheckedVolume] | None


def _open_case(item: Mapping[str, Any], read_masks: bool) -> _OpenedCase:
    name = str(item["case"])
    images = [(path, check_image(name, path)) for path in (str(Path(image)) for image in images_of(item))]
    mask = str(Path(item["label"])) if read_masks and "label" in item else None
    return _OpenedCase(name, images, None if mask is None else (mask, check_mask(name, mask)))


class _Survey:
    """Problems of the cases so far, and what is known of them to compare later ones with."""

    def __init__(self, mapped: set[int]) -> None:
        self.mapped = mapped  # values of some class
        self.problems: list[Problem] = []
        self.grids: dict[str, Grid] = {}  # of the first image of every case
        self.masks: dict[str, tuple[str, list[int]]] = {}  # case -> file and its values
        self._digests: dict[str, tuple[str, str]] = {}  # of an image -> case and file

    def add(self, case: _OpenedCase) -> None:
        """Compare a case with itself and with those before it."""
        for _, image in case.images:
            self.problems += image.problems
        for path, image in case.images:
            self._find_copy(case.name, path, image)
        grid = case.images[0][1].grid
        if grid is not None and not affine_problem(grid.affine):
            self.grids[case.name] = grid
            for path, image in case.images[1:]:
                remedy = "resample it to the first image of the case, or pair the right files"
                self._compare_grids(case.name, path, grid, image.grid, remedy)
        if case.mask is not None:
            self._add_mask(case.name, *case.mask)

    def _find_copy(self, case: str, path: str, image: CheckedVolume) -> None:
        if image.digest is None:
            return
        first = self._digests.setdefault(image.digest, (case, path))
        if first != (case, path):
            remedy = "remove one of them, as training and test must not share a patient"
            self.problems.append(Problem(case, path, f"has the same voxels as {first[1]} of case {first[0]!r}", remedy))

    def _add_mask(self, case: str, path: str, mask: CheckedVolume) -> None:
        self.problems += mask.problems
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
