"""Splits into training, validation and test cases, by case or by patient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.data import partition_dataset

from .io import read_json
from .patients import patients_of

__all__ = ["read_split", "split_cases"]

PARTS = ("train", "validation", "test")


def split_cases(
    cases: Sequence[Any],
    num_folds: int = 5,
    fold: int = 0,
    seed: int = 0,
    num_test: int = 0,
    groups: str | Path | None = None,
) -> dict[str, list[Any]]:
    """Split cases or patients for cross-validation.

    The test cases are set apart first and are the same in every fold; the others are dealt to `num_folds` parts, of
    which number `fold` is for validation. The same names and seed give the same split, in whatever order they come.
    With 28 cases, num_test=5 and num_folds=8 leave 20 for training and 3 for validation.

    With `groups`, patients are dealt instead of cases. The number of test cases is then as near to `num_test` as whole
    patients allow, and patients go to the fold with the fewest cases, those with the most cases first.

    Args:
        cases: names, or items with "case".
        num_folds: number of parts, at least 2.
        fold: from 0 to num_folds - 1.
        seed: of the shuffling.
        num_test: cases set apart.
        groups: which cases are of one patient: a regular expression or a CSV file, see `patients_of`.

    Returns:
        {"train": ..., "validation": ..., "test": ...} of what was given, each sorted by name.

    Raises:
        FileNotFoundError: when `groups` names a CSV file that does not exist.
        ValueError: when there is no case, one is given twice, there are too few cases or patients, the fold does not
            exist, or a case has no patient.
    """
    named = _by_name(cases)
    if num_folds < 2 or not 0 <= fold < num_folds or num_test < 0:
        raise ValueError(
            f"expected num_folds >= 2, 0 <= fold < num_folds and num_test >= 0, but got num_folds={num_folds}, "
            f"fold={fold} and num_test={num_test}."
        )
    members: dict[str, list[str]] = {}
    for name, patient in sorted(patients_of(list(named), groups).items()):
        members.setdefault(patient, []).append(name)
    if len(named) - num_test < num_folds:
        raise ValueError(
            f"cases: expected at least {num_folds + num_test} for {num_folds} folds and {num_test} test cases, but got "
            f"{len(named)}; lower num_folds or num_test, or give more cases."
        )
    if len(members) - bool(num_test) < num_folds:
        raise ValueError(
            f"groups: expected at least {num_folds + bool(num_test)} patients for {num_folds} folds and {num_test} "
            f"test cases, but got {len(members)}; lower num_folds, or correct groups."
        )
    patients = partition_dataset(sorted(members), num_partitions=1, shuffle=True, seed=seed)[0]
    sizes = [len(members[patient]) for patient in patients]
    chosen = _with_total(sizes, num_test, len(patients) - num_folds)
    folds = _dealt([index for index in range(len(patients)) if index not in chosen], sizes, num_folds)
    test, *dealt = ([name for index in part for name in members[patients[index]]] for part in (chosen, *folds))
    train = [name for number, part in enumerate(dealt) if number != fold for name in part]
    parts = dict(zip(PARTS, (train, dealt[fold], test), strict=True))
    return {part: [named[name] for name in sorted(names)] for part, names in parts.items()}


def read_split(path: str | Path, cases: Sequence[Any], groups: str | Path | None = None) -> dict[str, list[Any]]:
    """Read an explicit split: a JSON file with lists of case names under "train", "validation" and "test".

    Args:
        path: the file; "test" may be left out.
        cases: names, or items with "case"; those that the file does not name are left out.
        groups: which cases are of one patient, see `patients_of`; a patient must be in one list only.

    Returns:
        {"train": ..., "validation": ..., "test": ...} of what was given, in the order of the file.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when a list is missing, empty or something else, a case is unknown, or it or its patient is in two
            lists.
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
    seen: dict[str, str] = {}
    for name, patient in patients_of(list(home), groups).items():
        other = seen.setdefault(patient, name)
        if home[other] != home[name]:
            raise ValueError(
                f"{path}: cases {other!r} and {name!r} of patient {patient!r} are in {home[other]!r} and "
                f"{home[name]!r}; keep a patient in one list."
            )
    return {part: [named[str(name)] for name in content[part]] for part in PARTS}


def _with_total(sizes: Sequence[int], total: int, most: int) -> list[int]:
    """Indices of at most `most` numbers, the first ones where there is a choice, whose sum is nearest to `total`."""
    reached: dict[int, list[int]] = {0: []}
    for index, size in enumerate(sizes):
        for found, indices in list(reached.items()):
            if found < total and len(indices) < most:
                reached.setdefault(found + size, [*indices, index])
    if total:
        reached.pop(0)  # no test cases are none that were asked for
    return reached[min(reached, key=lambda found: (abs(found - total), found))]


def _dealt(indices: Sequence[int], sizes: Sequence[int], num_folds: int) -> list[list[int]]:
    """Indices in folds, the largest first, each to the fold with the smallest sum of sizes."""
    folds: list[list[int]] = [[] for _ in range(num_folds)]
    for index in sorted(indices, key=lambda one: -sizes[one]):
        min(folds, key=lambda fold: sum(sizes[one] for one in fold)).append(index)
    return folds


def _by_name(cases: Sequence[Any]) -> dict[str, Any]:
    named = {str(case["case"]) if isinstance(case, Mapping) else str(case): case for case in cases}
    if not named:
        raise ValueError("cases: expected at least one, but got an empty list; check the data set's folder.")
    if len(named) != len(cases):
        raise ValueError(f"cases: expected each once, but got {len(cases)} items of {len(named)} cases.")
    return named
