"""Split the cases of a Decathlon folder."""

from __future__ import annotations

from pathlib import Path

from ..folds import read_split, split_cases
from .decathlon import decathlon_cases

__all__ = ["split_decathlon"]


def split_decathlon(
    dataset_dir: str | Path,
    num_folds: int = 5,
    fold: int = 0,
    seed: int = 0,
    num_test: int = 0,
    split_file: str | Path | None = None,
    check_masks: bool = True,
    groups: str | Path | None = None,
) -> dict[str, list[dict[str, str]]]:
    """List the cases of a Decathlon folder for training, validation and test; no volume is opened.

    Args:
        dataset_dir: see `decathlon_cases`.
        num_folds: see `split_cases`.
        fold: see `split_cases`.
        seed: see `split_cases`.
        num_test: see `split_cases`.
        split_file: explicit lists of cases instead of folds, see `read_split`.
        check_masks: see `decathlon_cases`.
        groups: which cases are of one patient, see `split_cases`; None when every case is a patient of its own.

    Returns:
        {"train": ..., "validation": ..., "test": ...}, items {"case", "image"} and, where there is a mask, "label".

    Raises:
        FileNotFoundError: when a file is missing.
        ValueError: when the data set, the folds or the lists are wrong.
    """
    cases = decathlon_cases(dataset_dir, check_masks=check_masks)
    if split_file:
        return read_split(split_file, cases, groups)
    return split_cases(cases, num_folds, fold, seed, num_test, groups)
