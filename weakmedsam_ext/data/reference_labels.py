"""Reference masks in class numbers, for the fully supervised upper bound only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .io import load_case_mask, write_nifti
from .progress import show_progress

__all__ = ["class_numbers", "write_reference_labels"]


def write_reference_labels(
    cases: Sequence[Mapping[str, str]],
    class_map: Mapping[Any, int | Sequence[int]],
    output_dir: str | Path,
    progress: bool = True,
) -> None:
    """Write masks in the format of pseudo-labels: class k has the value k + 1, anything else is 0.

    This opens the masks: weakly supervised training never calls it.

    Args:
        cases: items with "case", "image" and "label" (path of the mask).
        class_map: class name -> value or values in the masks; where classes share a value, the last one has it.
        output_dir: gets `<case>.nii.gz`, on the grid of the mask.
        progress: show a progress bar.

    Raises:
        FileNotFoundError: when an image or a mask is missing.
        ValueError: when a case has no mask, or a mask is damaged or does not fit its image.
    """
    for item in show_progress(cases, "reference labels", "case", enabled=progress):
        if "label" not in item:
            raise ValueError(f"case {item['case']!r} has no mask; a supervised upper bound needs one for every case.")
        mask = load_case_mask(item)
        write_nifti(class_numbers(mask.array, class_map), mask.affine, Path(output_dir) / f"{item['case']}.nii.gz")


def class_numbers(mask: np.ndarray, class_map: Mapping[Any, int | Sequence[int]]) -> np.ndarray:
    """Convert label values to class numbers, uint8: k + 1 for class k, else 0; the last class wins a shared value."""
    numbers = np.zeros(mask.shape, dtype=np.uint8)
    for number, values in enumerate(class_map.values(), 1):
        numbers[np.isin(mask, values)] = number
    return numbers
