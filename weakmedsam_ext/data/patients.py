"""Map cases to patients, for splits by patient."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from .csv_table import changed_by_spreadsheet, read_table

__all__ = ["patients_of"]

COLUMNS = ("case", "patient")


def patients_of(names: Sequence[str], groups: str | Path | None) -> dict[str, str]:
    r"""Map every case to its patient.

    Args:
        names: of the cases.
        groups: a regular expression whose first group, or whole match without one, is the patient in the name of a case
            (`"^(BraTS19_\w+?_\d+)_"`); or the path of a CSV file with the columns case and patient, which ends in
            ".csv", see `read_table`. Without, every case is a patient of its own.

    Returns:
        case -> patient.

    Raises:
        FileNotFoundError: when there is no such CSV file.
        ValueError: when the pattern or the file is wrong, or a case has no patient.
    """
    if not groups:
        return {name: name for name in names}
    if str(groups).endswith(".csv"):
        table = _read_table(Path(groups).expanduser())
        found = {name: table.get(name, "") for name in names}
        remedy = _remedy(table, next((name for name in names if not found[name]), ""), groups)
    else:
        found = {name: _first_group(_pattern(str(groups)), name) for name in names}
        remedy = f"the pattern {groups!r} does not match it; correct the pattern, or give a CSV file"
    without = [name for name, patient in found.items() if not patient]
    if without:
        raise ValueError(f"groups: {len(without)} cases have no patient, for example {without[0]!r}; {remedy}.")
    return found


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise ValueError(f"groups: {text!r} is no regular expression ({error}); correct it.") from error


def _first_group(pattern: re.Pattern[str], name: str) -> str:
    match = pattern.search(name)
    return "" if match is None else (match.group(1 if pattern.groups else 0) or "")


def _read_table(path: Path) -> Mapping[str, str]:
    """Case -> patient of a CSV file."""
    if not path.is_file():
        raise FileNotFoundError(f"groups: {path} does not exist; give a CSV file with the columns case,patient.")
    content = read_table(path, COLUMNS)
    if content.lacking(COLUMNS):
        raise ValueError(f"{path}: expected the columns case,patient, but got {content.header}; add them.")
    table: dict[str, str] = {}
    for _, row in content.rows:
        if table.setdefault(row["case"], row["patient"]) != row["patient"]:
            raise ValueError(f"{path}: case {row['case']!r} has two patients; keep one row for it.")
    return table


def _remedy(table: Mapping[str, str], lacking: str, groups: str | Path) -> str:
    """What helps a case that a table lacks."""
    changed = (changed_by_spreadsheet(text, [lacking]) for text in table)
    return next((told for told in changed if told), f"add a row for it to {groups}")
