"""Read CSV files as spreadsheets of any language save them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Table", "changed_by_spreadsheet", "read_table"]

DELIMITERS = (",", ";", "\t")
WORKBOOK = b"PK\x03\x04"  # first bytes of .xlsx and .ods
NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?(E[+-]?\d+)?", re.IGNORECASE)
MONTH = (
    r"(jan(uary)?|feb(ruary)?|mar(ch)?|mär|mrz|apr(il)?|may|mai|june?|july?|aug(ust)?|sept?(ember)?|o[ck]t(ober)?"
    r"|nov(ember)?|de[cz](ember)?)\.?"
)
# 1-3, 03.01.2024, 2024-01-03, 3-Jan, 03. Mrz, MAR1
DATE = re.compile(
    rf"\d{{1,4}}[-/. ]+\d{{1,2}}([-/. ]+\d{{1,4}})?|(?=.*\d)(\d{{1,4}}[-/. ]*)?{MONTH}([-/. ]*\d{{1,4}})?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Table:
    """Rows of a CSV file.

    Args:
        path: the file.
        header: names of the columns as the file has them.
        rows: line number in the file, and column -> text of every row that is not empty; the columns are those that
            were asked for and that the file has.
    """

    path: Path
    header: list[str]
    rows: list[tuple[int, dict[str, str]]]

    def lacking(self, columns: Iterable[str]) -> list[str]:
        """Those of some columns that the file does not have."""
        return [column for column in columns if column not in map(_plain, self.header)]


def read_table(path: str | Path, columns: Sequence[str]) -> Table:
    """Read a CSV file.

    Comma, semicolon or tab may separate the columns, whichever finds the columns in the header, or what a first line
    such as "sep=;" says. The text is UTF-8 or UTF-16 with a byte order mark, UTF-8 without, or else cp1252. Names of
    columns may be in any case and have spaces around them. Empty rows and other columns are left out.

    Args:
        path: the file.
        columns: names in lower case.

    Returns:
        the rows; a column that the file lacks is told by `Table.lacking`.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is no text, a column is there twice, or a row has more columns than the header.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; give a CSV file with the columns {', '.join(columns)}.")
    text = _decoded(path)
    lines = text.splitlines()
    told = re.fullmatch(r'"?sep=(.)"?[;,\t]*', lines[0].strip(" "), re.IGNORECASE) if lines else None
    if told:
        delimiter = told[1]
    else:
        header = next((line for line in lines if line.strip(' ,;\t"')), "")
        delimiter = max(DELIMITERS, key=lambda one: _fit(header, one, columns))
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
        content = [(reader.line_num, [field.strip() for field in row]) for row in reader]
    except csv.Error as error:
        raise _no_csv(path, str(error)) from error
    filled = [(line, row) for line, row in content[1 if told else 0 :] if any(row)]
    names = filled[0][1] if filled else []
    positions = {column: [k for k, name in enumerate(names) if _plain(name) == column] for column in columns}
    for column, found in positions.items():
        if len(found) > 1:
            raise ValueError(f"{path}: column {column!r} is there {len(found)} times; keep one of them.")
    width = max((k + 1 for k, name in enumerate(names) if name), default=0)
    rows = []
    for line, row in filled[1:]:
        if any(row[width:]):
            raise ValueError(
                f"{path}, line {line}: expected {width} columns as in the header, but got {len(row)}; put texts that "
                f"hold {delimiter!r} into double quotes."
            )
        rows.append((line, {c: (row[k[0]] if k[0] < len(row) else "") for c, k in positions.items() if k}))
    return Table(path, names[:width], rows)


def changed_by_spreadsheet(text: str, names: Iterable[str]) -> str | None:
    """Why a text may be one of some names, changed by a spreadsheet that took it for a number or a date.

    Args:
        text: that is none of the names.
        names: that it may have been.

    Returns:
        the end of an error's sentence; None when no name is alike.
    """
    remedy = "format the column as text before you type or import names"
    for name in names:
        if NUMBER.fullmatch(text) and NUMBER.fullmatch(name) and _same_number(text, name):
            return f"a spreadsheet may have read {name!r} as the number {text}; {remedy}"
    date = next((name for name in names if DATE.fullmatch(name)), None) if DATE.fullmatch(text) else None
    return None if date is None else f"a spreadsheet may have read a name such as {date!r} as a date; {remedy}"


def _same_number(text: str, name: str) -> bool:
    value, other = (float(one.replace(",", ".")) for one in (text, name))
    mantissa, exponent, _ = text.upper().partition("E")
    if not exponent:
        return value == other
    # long numbers are shown with a few digits
    digits = len(re.sub(r"^[^.,]*[.,]?", "", mantissa))
    return f"{value:.{digits}E}" == f"{other:.{digits}E}"


def _decoded(path: Path) -> str:
    content = path.read_bytes()
    if content.startswith(WORKBOOK):
        raise _no_csv(path, "it is a spreadsheet's workbook")
    marked = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
    known = [encoding for mark, encoding in marked.items() if content.startswith(mark)]
    text = None
    for encoding in known or ("utf-8", "cp1252", "latin-1"):
        try:
            text = content.decode(encoding)
            break
        except UnicodeDecodeError:
            continue
    if text is None or re.search(r"[\x00-\x08\x0e-\x1f]", text):
        raise _no_csv(path, "it is no text")
    return text


def _no_csv(path: Path, reason: str) -> ValueError:
    return ValueError(f"{path} is no CSV file ({reason}); save it as comma separated UTF-8 text.")


def _plain(name: str) -> str:
    return name.strip().lower()


def _fit(header: str, delimiter: str, columns: Sequence[str]) -> int:
    """Number of the columns that a delimiter finds in a header; the first delimiter is chosen of equals."""
    fields = next(csv.reader([header], delimiter=delimiter, skipinitialspace=True), [])
    return len(set(columns) & set(map(_plain, fields)))
