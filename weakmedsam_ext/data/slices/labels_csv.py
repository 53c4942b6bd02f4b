"""Read image-level labels from a user's CSV file with one row per slice."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..cases import images_of
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
) -> SliceLabels:
    """Read slice labels from a CSV file with the columns case, slice and classes.

    Every slice of every case has a row, so that a forgotten slice is not taken for an empty one:

        case,slice,classes
        la_001,0,
        la_001,1,left atrium
        la_001,2,left atrium;aorta

    Args:
        csv_path: the file. Slices are counted from 0 in the order of the image file, as viewers show them, along the
            array axis that is nearest to the anatomical one; classes are separated by ";", nothing means that no class
            is visible.
        cases: items with "case" and "image"; only the image's header is read, for the number of slices.
        classes: names of all classes, in the order of the K-vectors.
        output: where to write slice_labels.json; not written without.
        axis: anatomical direction of the slices: "axial", "coronal" or "sagittal".

    Returns:
        the labels, in the order of the slice store, see `SliceLabels`.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when a column, a case or a slice is missing, a row is given twice, a class or a case is unknown, or
            a slice lies outside its volume.
    """
    csv_path = Path(csv_path)
    geometries = {item["case"]: SliceGeometry.of_grid(read_grid(images_of(item)[0]), 1, axis) for item in cases}
    num_slices = {case: geometry.num_slices for case, geometry in geometries.items()}
    rows: dict[str, dict[int, tuple[str, ...]]] = {case: {} for case in num_slices}
    for line, (case, text, names) in _read_rows(csv_path):
        where = f"{csv_path}, line {line}"
        if case not in rows:
            raise ValueError(
                f"{where}: unknown case {case!r}; expected one of the data set, for example {_some(rows)}."
            )
        if not text.isdecimal() or int(text) >= num_slices[case]:
            raise ValueError(
                f"{where}: slice {text!r} of {case} is out of range; expected 0 to {num_slices[case] - 1}."
            )
        visible = {name.strip() for name in names.split(";")} - {""}
        unknown = visible - set(classes)
        if unknown:
            raise ValueError(f"{where}: unknown classes {sorted(unknown)}; expected some of {list(classes)}.")
        if int(text) in rows[case]:
            raise ValueError(f"{where}: slice {text} of {case} has two rows; keep one of them.")
        rows[case][int(text)] = tuple(name for name in classes if name in visible)
    for case, slices in rows.items():
        missing = sorted(set(range(num_slices[case])) - set(slices))
        if missing:
            raise ValueError(
                f"{csv_path}: case {case!r} has no row for {len(missing)} of its {num_slices[case]} slices "
                f"({_some(missing)}); add them, with empty classes where nothing is visible."
            )
    visible_in = {
        case: [slices[geometries[case].file_index(index)] for index in range(num_slices[case])]
        for case, slices in rows.items()
    }
    labels = SliceLabels(tuple(classes), visible_in, {"kind": "csv", "file": csv_path.name, "axis": axis})
    if output is not None:
        labels.write(output)
    return labels


def _read_rows(path: Path) -> list[tuple[int, tuple[str, str, str]]]:
    """Line number and stripped columns of every row."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; give a CSV file with the columns {', '.join(COLUMNS)}.")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets put a byte order mark first
            reader = csv.DictReader(file)
            rows = [(reader.line_num, {key: (row.get(key) or "").strip() for key in COLUMNS}) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is no CSV file ({error}); save it as comma separated UTF-8 text.") from error
    missing = set(COLUMNS) - set(reader.fieldnames or ())
    if missing:
        raise ValueError(f"{path}: columns {sorted(missing)} are missing; expected the header {','.join(COLUMNS)}.")
    return [(line, (row["case"], row["slice"], row["classes"])) for line, row in rows]


def _some(values: Sequence[object] | Mapping[str, object]) -> str:
    return ", ".join(str(value) for value in list(values)[:3]) + (", ..." if len(values) > 3 else "")
