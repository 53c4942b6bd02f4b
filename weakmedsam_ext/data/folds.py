"""Training, validation and test cases; a case is in one of them only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.data import partition_dataset

from .io import read_json

__all__ = ["read_split", "split_cases"]

PARTS = ("train", "validation", "test")


def split_cases(
    cases: Sequence[Any], num_folds: int = 5, fold: int = 0, seed: int = 0, num_test: int = 0
) -> dict[str, list[Any]]:
    """Split cases for cross-validation.

    The test cases are set apart first and are the same in every fold; the others are dealt to `num_folds` parts, of
    which number `fold` is for validation. The same names and seed give the same split, in whatever order they come.
    With 28 cases, num_test=5 and num_folds=8 leave 20 for training and 3 for validation.

    Args:
        cases: names, or items with "case".
        num_folds: number of parts, at least 2.
        fold: from 0 to num_folds - 1.
        seed: of the shuffling.
        num_test: cases set apart.

    Returns:
        {"train": ..., "validation": ..., "test": ...} of what was given, each sorted by name.

    Raises:
        ValueError: when there is no case, one is given twice, there are too few, or the fold does not exist.
    """
    named = _by_name(cases)
    if num_folds < 2 or not 0 <= fold < num_folds or num_test < 0:
        raise ValueError(
            f"expected num_folds >= 2, 0 <= fold < num_folds and num_test >= 0, but got num_folds={num_folds}, "
            f"fold={fold} and num_test={num_test}."
        )
    if len(named) - num_test < num_folds:
        raise ValueError(
            f"cases: expected at least {num_folds + num_test} for {num_folds} folds and {num_test} test cases, but got "
            f"{len(named)}; lower num_folds or num_test, or give more cases."
        )
    names = partition_dataset(sorted(named), num_partitions=1, shuffle=True, seed=seed)[0]
    test, others = names[:num_test], names[num_test:]
    folds = partition_dataset(others, num_partitions=num_folds)
    train = [name for number, part in enumerate(folds) if number != fold for name in part]
    parts = dict(zip(PARTS, (train, folds[fold], test), strict=True))
    return {part: [named[name] for name in sorted(members)] for part, members in parts.items()}


def read_split(path: str | Path, cases: Sequence[Any]) -> dict[str, list[Any]]:
    """Read an explicit split: a JSON file with lists of case names under "train", "validation" and "test".

    Args:
        path: the file; "test" may be left out.
        cases: names, or items with "case"; those that the file does not name are left out.

    Returns:
        {"train": ..., "validation": ..., "test": ...} of what was given, in the order of the file.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when a list is missing, empty or something else, a case is unknown, or it is in two lists.
    """
    named = _by_name(cases)
    content = {"test": [], **read_json(path, "write lists of case names under 'train', 'validation' and 'test'")}
    home: dict[str, str] = {}
    for part in PARTS:
        members = content.get(part)
        if not isinstance(members, list) or (not members and part != "test"):
            raise ValueError(f"{path}: expected a list of case names under {part!r}, but got {members!r}.")
        for name in map(str, members):
            if name not in named:
                raise ValueError(f"{path}: {part!r} names the case {name!r}, which is not in the data set; remove it.")
            if name in home:
                raise ValueError(f"{path}: case {name!r} is in {home[name]!r} and in {part!r}; keep it in one list.")
            home[name] = part
    return {part: [named[str(name)] for name in content[part]] for part in PARTS}


def _by_name(cases: Sequence[Any]) -> dict[str, Any]:
    named = {str(case["case"]) if isinstance(case, Mapping) else str(case): case for case in cases}
    if not named:
        raise ValueError("cases: expected at least one, but got an empty list; check the data set's folder.")
    if len(named) != len(cases):
        raise ValueError(f"cases: expected each once, but got {len(cases)} items of {len(named)} cases.")
    return named
