"""Slices on which a structure was missed, and slices on which one was seen that is not there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .case_images import CaseImages

__all__ = ["MISSED", "SPURIOUS", "Finding", "count_findings", "find_slices"]

MISSED, SPURIOUS = "missed", "spurious"


@dataclass(frozen=True)
class Finding:
    """A slice on which one of reference and prediction has nothing.

    Args:
        kind: "missed": the reference alone shows the structure; "spurious": the prediction alone.
        case: its name.
        structure: name of the class.
        number: of the slice, from 0.
        area: of the structure in the slice, in square mm.
    """

    kind: str
    case: str
    structure: str
    number: int
    area: float


def find_slices(case: CaseImages, predicted: str, class_names: Sequence[str]) -> list[Finding]:
    """Findings of a case, the largest first.

    Args:
        case: with the layers "reference" and `predicted`.
        predicted: title of the prediction.
        class_names: class k has the value k + 1 in the masks.
    """
    others = tuple(a for a in range(3) if a != case.axis)
    found = []
    for value, name in enumerate(class_names, 1):
        real, answer = ((case.layers[layer] == value).sum(others) for layer in ("reference", predicted))
        for kind, shown, other in ((MISSED, real, answer), (SPURIOUS, answer, real)):
            for number in np.flatnonzero((shown > 0) & (other == 0)).tolist():
                found.append(Finding(kind, case.name, name, number, float(shown[number]) * case.pixel_area))
    return sorted(found, key=lambda finding: -finding.area)


def count_findings(findings: Sequence[Finding]) -> Mapping[tuple[str, str, str], int]:
    """(kind, case, structure) -> number of slices."""
    counts: dict[tuple[str, str, str], int] = {}
    for finding in findings:
        key = (finding.kind, finding.case, finding.structure)
        counts[key] = counts.get(key, 0) + 1
    return counts
