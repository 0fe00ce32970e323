"""Records of CSV, TSV and Excel files.

Places are ``FILE:LINE`` in CSV and TSV (the first line of a row) and ``FILE:ROW`` in
Excel, both counted from 1, so that the header is usually 1.
"""

from __future__ import annotations

import ast
import csv
import io
import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain
from typing import Any

from ser_kedro.errors import DataError
from ser_kedro.preferences.files.arrow_records import unique_names
from ser_kedro.preferences.files.compression import Plain, cut
from ser_kedro.preferences.files.json_records import BAD_JSON, DECODER
from ser_kedro.preferences.records import DropReason, Raw, first_line

_LONGEST_CELL = 2**31 - 1
_MOST_LINES = 1000
# What "surrogateescape" makes of bytes that are not UTF-8.
_NO_TEXT = re.compile("[\udc80-\udcff]")
_PYTHON = re.compile(r"""\[\s*\{\s*['"]|\{\s*['"]""")
# NumPy writes no comma between the objects of a list.
_NO_COMMA = re.compile(r"\}\s*\n\s*\{")


def read_csv(stream: Plain, name: str) -> Iterator[Raw]:
    """Stream the rows of a CSV file; a comma, a semicolon or a tab may part them.

    Python's own reader, not pandas': it gives the line of each row, and one bad row
    is one flaw.
    """
    yield from _read_rows(stream, name, "")


def read_tsv(stream: Plain, name: str) -> Iterator[Raw]:
    """Stream the rows of a TSV file."""
    yield from _read_rows(stream, name, "\t")


def read_excel(stream: Plain, name: str) -> Iterator[Raw]:
    """Read the rows of the first sheet of an Excel file."""
    import pandas as pd

    with ExitStack() as stack:
        try:
            table = pd.read_excel(
                stream.random_access(stack),
                dtype=str,
                keep_default_na=False,
                na_values=[""],
                engine="openpyxl",
            )
        except ImportError as error:
            raise DataError(
                f"{name}: Excel files need openpyxl; pip install 'ser-kedro[excel]',"
                " or save the sheet as CSV UTF-8"
            ) from error
        except DataError:
            raise
        except Exception as error:  # openpyxl and zipfile have many
            yield cut(f"{name}:1", stream.flaw or first_line(error))
            return
    names = list(map(str, table.columns))
    for number, row in enumerate(table.itertuples(index=False, name=None), 2):
        cells = ["" if pd.isna(cell) else str(cell) for cell in row]
        if any(cells):
            yield Raw(f"{name}:{number}", _record(names, cells))


def _read_rows(stream: Plain, name: str, delimiter: str) -> Iterator[Raw]:
    before: Raw | None = None
    for raw in _rows(stream, name, delimiter):
        if before is not None:
            yield before
        before = raw
    if stream.flaw:
        # The last row may be half of one: the flaw stands for it.
        place = before.place if before is not None else f"{name}:1"
        yield cut(place, stream.flaw)
    elif before is not None:
        yield before


def _rows(stream: Plain, name: str, delimiter: str) -> Iterator[Raw]:
    csv.field_size_limit(_LONGEST_CELL)
    lines = io.TextIOWrapper(
        stream, _encoding(stream.peek(4)), errors="surrogateescape", newline=""
    )
    first = lines.readline()
    delimiter = delimiter or _delimiter(first)
    rows = csv.reader(chain([first], lines), delimiter=delimiter, strict=True)
    names: list[str] = []
    while True:
        line = rows.line_num + 1
        place = f"{name}:{line}"
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield _bad_row(place, name, line, rows.line_num, error)
            continue
        if not any(cells):
            continue
        if not names:
            names = _header(cells)
        else:
            yield _from_cells(place, names, cells)


def _encoding(head: bytes) -> str:
    found = json.detect_encoding(head)
    return "utf-8-sig" if found.startswith("utf-8") else found


def _delimiter(header: str) -> str:
    # Excel writes semicolons where the comma is the decimal point.
    return max(",;\t|", key=header.count)


def _header(cells: list[str]) -> list[str]:
    # The names that pandas gives, as people know them.
    named = [cell.strip() or f"Unnamed: {n}" for n, cell in enumerate(cells)]
    return unique_names(named)


def _bad_row(place: str, name: str, line: int, last: int, error: csv.Error) -> Raw:
    if "unexpected end" not in str(error):
        detail = f"the row is not well-formed CSV ({error})"
        return Raw(place, None, DropReason.wrong_types, detail)
    if last - line > _MOST_LINES:
        raise DataError(
            f"{place}: a quote is opened and never closed, in all of the"
            f" {last - line:,} lines that follow; mend the line, or save {name} again"
            " as CSV UTF-8"
        )
    return cut(place, "a quote is opened and never closed")


def _from_cells(place: str, names: list[str], cells: list[str]) -> Raw:
    if len(cells) > len(names) and any(cells[len(names) :]):
        detail = f"{len(cells)} cells, the header has {len(names)}"
        return Raw(place, None, DropReason.wrong_types, detail)
    for cell in cells:
        if not cell.isascii() and _NO_TEXT.search(cell):
            detail = "the row is not UTF-8; save the file as CSV UTF-8"
            return Raw(place, None, DropReason.invalid_utf8, detail)
    return Raw(place, _record(names, cells))


def _record(names: list[str], cells: list[str]) -> dict[str, Any]:
    record: dict[str, Any] = dict.fromkeys(names)
    record.update(zip(names, map(_value, cells), strict=False))
    return record


def _value(cell: str) -> Any:
    """Return what a cell holds: nothing, a list or an object, else its text."""
    if not cell:
        return None
    if cell.lstrip()[:1] not in ("[", "{"):
        return cell
    try:
        return DECODER.decode(cell)
    except BAD_JSON:
        pass
    if not _PYTHON.match(cell.lstrip()):
        return cell
    try:
        value = ast.literal_eval(_NO_COMMA.sub("}, {", cell.strip()))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return cell
    is_list = isinstance(value, list) and all(isinstance(v, dict) for v in value)
    return value if is_list or isinstance(value, dict) else cell
