"""Read image-level labels from a user's CSV file with one row per slice."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..cases import images_of
from ..csv_table import Table, changed_by_spreadsheet, read_table
from ..io import read_grid
from .geometry import SliceGeometry
from .labels import SliceLabels

__all__ = ["slice_labels_from_csv"]

COLUMNS = ("case", "slice", "classes")


def slice_labels_from_csv(
    csv_path: str | Path,
    cases: Sequence[Mapping[str, Any]],
    classes: Sequence[str],
    output: str | Path | None = None,
    axis: str = "axial",
    others: Sequence[Mapping[str, Any]] = (),
) -> SliceLabels:
    """Read slice labels from a CSV file with the columns case, slice and classes.

    Every slice of every case has a row, so that a forgotten slice is not taken for an empty one:

        case,slice,classes
        la_001,0,
        la_001,1,left atrium
        la_001,2,left atrium;aorta

    Where all cases have one slice, as pictures do, the column slice may be missing:

        case,classes
        photo_1.png,lesion
        photo_2.png,

    Args:
        csv_path: the file, as spreadsheets save it, see `read_table`. A case is its name, or the name of its file.
            Slices are counted from 0 in the order of the image file, as viewers show them, along the array axis that is
            nearest to the anatomical one; "3.0" is 3. Classes are separated by ";", "|" or ","; where that separates
            the columns too, the classes of a row stand in double quotes. Nothing means that no class is visible.
        cases: items with "case" and "image"; only the image's header is read where that is enough, for the number of
            slices.
        classes: names of all classes, in the order of the K-vectors; a name that holds a separator is not split there.
        output: where to write slice_labels.json; not written without.
        axis: anatomical direction of the slices: "axial", "coronal" or "sagittal".
        others: cases of the data set that are not asked for, such as those that are held out. Their rows are read over.

    Returns:
        the labels, in the order of the slice store, see `SliceLabels`.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when a column, a case or a slice is missing, a row is given twice, a class or a case is unknown, or
            a slice lies outside its volume. Names that a spreadsheet may have changed are told, not guessed.
    """
    csv_path = Path(csv_path)
    table = read_table(csv_path, COLUMNS)
    geometries = {item["case"]: SliceGeometry.of_grid(read_grid(images_of(item)[0]), 1, axis) for item in cases}
    num_slices = {case: geometry.num_slices for case, geometry in geometries.items()}
    _check_columns(table, num_slices)
    names = _names(cases)
    read_over = set(_names(others)) - set(names)
    rows: dict[str, dict[int, tuple[str, ...]]] = {case: {} for case in num_slices}
    for line, row in table.rows:
        where = f"{csv_path}, line {line}"
        if row["case"] in read_over:
            continue
        if row["case"] not in names:
            changed = changed_by_spreadsheet(row["case"], rows)
            expected = changed or f"expected one of the data set, for example {_some(rows)}"
            raise ValueError(f"{where}: unknown case {row['case']!r}; {expected}.")
        case = names[row["case"]]
        index = _slice_number(row.get("slice", ""), num_slices[case])
        if index is None:
            raise ValueError(
                f"{where}: slice {row.get('slice')!r} of {case} is out of range; expected 0 to {num_slices[case] - 1}."
            )
        visible = _visible(row["classes"], classes)
        unknown = visible - set(classes)
        if unknown:
            raise ValueError(f"{where}: unknown classes {sorted(unknown)}; expected some of {list(classes)}.")
        if index in rows[case]:
            raise ValueError(f"{where}: slice {index} of {case} has two rows; keep one of them.")
        rows[case][index] = tuple(name for name in classes if name in visible)
    _check_complete(table, rows, num_slices)
    visible_in = {
        case: [slices[geometries[case].file_index(index)] for index in range(num_slices[case])]
        for case, slices in rows.items()
    }
    labels = SliceLabels(tuple(classes), visible_in, {"kind": "csv", "file": csv_path.name, "axis": axis})
    if output is not None:
        labels.write(output)
    return labels


def _names(cases: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Case by its own name and by that of its first image."""
    files = {Path(images_of(item)[0]).name: str(item["case"]) for item in cases}
    return files | {str(item["case"]): str(item["case"]) for item in cases}


def _check_columns(table: Table, num_slices: Mapping[str, int]) -> None:
    missing = table.lacking(COLUMNS)
    if missing and not (missing == ["slice"] and set(num_slices.values()) == {1}):
        raise ValueError(
            f"{table.path}: columns {sorted(missing)} are missing; expected the header {','.join(COLUMNS)}."
        )


def _check_complete(table: Table, rows: Mapping[str, Mapping[int, object]], num_slices: Mapping[str, int]) -> None:
    for case, slices in rows.items():
        missing = sorted(set(range(num_slices[case])) - set(slices))
        if missing:
            raise ValueError(
                f"{table.path}: case {case!r} has no row for {len(missing)} of its {num_slices[case]} slices "
                f"({_some(missing)}); add them, with empty classes where nothing is visible."
            )


def _slice_number(text: str, num_slices: int) -> int | None:
    """Number of a slice, which spreadsheets may write as 3.0 or 3,0; None when it is none of the volume."""
    if not text and num_slices == 1:
        return 0
    found = re.fullmatch(r"(\d+)([.,]0*)?", text, re.ASCII)
    return int(found[1]) if found and int(found[1]) < num_slices else None


def _visible(text: str, classes: Sequence[str]) -> set[str]:
    """Names in a text, split at the separators that are in no class name."""
    separators = "".join(one for one in ";|," if not any(one in name for name in classes))
    parts = re.split(f"[{separators}]", text) if separators else [text]
    return {part.strip() for part in parts} - {""}


def _some(values: Sequence[object] | Mapping[str, object]) -> str:
    return ", ".join(str(value) for value in list(values)[:3]) + (", ..." if len(values) > 3 else "")
