"""Layouts in which one JSON object holds all records of a file.

| layout | example |
|---|---|
| wrapper | ``{"data": [{...}, {...}]}``: a name of ``WRAPPERS``, or one list alone |
| viewer | ``{"rows": [{"row_idx": 0, "row": {...}}]}``, as the hub's viewer gives |
| columns | ``{"prompt": ["...", "..."], "chosen": ["...", "..."]}`` |
| pandas columns | ``{"prompt": {"0": "...", "1": "..."}, "chosen": {...}}`` |
| pandas index | ``{"0": {...}, "1": {...}}`` |
| pandas split | ``{"columns": ["prompt"], "index": [0], "data": [["..."]]}`` |
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ser_kedro.preferences.records import DropReason, Raw

WRAPPERS = (
    "data",
    "rows",
    "records",
    "examples",
    "instances",
    "items",
    "train",
    "validation",
    "test",
)


def records_of(document: dict[str, Any], name: str) -> Iterator[Raw]:
    """Yield the records in an object that is a whole file; it may be one itself.

    Args:
        document: The object.
        name: The file's name; a place is ``FILE:RECORD``.
    """
    if _is_pandas_split(document):
        columns = document["columns"]
        rows: list[Any] = [
            dict(zip(columns, row, strict=True))
            if isinstance(row, list) and len(row) == len(columns)
            else row
            for row in document["data"]
        ]
    elif wrapped := _wrapped(document):
        if len(wrapped) > 1:
            yield _ambiguous(document, wrapped, name)
            return
        rows = document[wrapped[0]]
    elif _is_numbered(document) and _all(dict, document.values()):
        rows = list(document.values())
    elif _are_columns(document):
        yield from _from_columns(document, name)
        return
    else:
        rows = [document]
    for number, row in enumerate(rows, 1):
        yield _from_viewer(row, f"{name}:{number}")


def as_raw(place: str, value: Any) -> Raw:
    """Return a value as a record, or as a flaw if it is no object."""
    if isinstance(value, dict):
        return Raw(place, value)
    detail = f"the record is {type(value).__name__}, not an object"
    return Raw(place, None, DropReason.wrong_types, detail)


def _wrapped(document: dict[str, Any]) -> list[str]:
    lists = [key for key, value in document.items() if _has_records(value)]
    known = [key for key in lists if key in WRAPPERS]
    if known:
        return known
    if document.get("data") == []:
        return ["data"]
    return lists if len(document) == 1 else []


def _has_records(value: Any) -> bool:
    return (
        isinstance(value, list)
        and any(isinstance(item, dict) for item in value)
        and not any(_is_message(item) for item in value)
    )


def _is_message(value: Any) -> bool:
    # A list of these is one dialogue, not the rows of a file.
    return isinstance(value, dict) and (
        {"role", "content"} <= set(value) or {"from", "value"} <= set(value)
    )


def _ambiguous(document: dict[str, Any], keys: list[str], name: str) -> Raw:
    found = ", ".join(f"{key} ({len(document[key])})" for key in keys)
    detail = f"several lists of records: {found}; save each as a file of its own"
    return Raw(f"{name}:1", None, DropReason.wrong_types, detail)


def _from_viewer(row: Any, place: str) -> Raw:
    if not (isinstance(row, dict) and isinstance(row.get("row"), dict)):
        return as_raw(place, row)
    if row.get("truncated_cells"):
        cells = ", ".join(map(str, row["truncated_cells"]))
        detail = f"the viewer has shortened {cells}; read the data set itself by hub://"
        return Raw(place, None, DropReason.truncated_file, detail)
    return Raw(place, row["row"])


def _is_pandas_split(document: dict[str, Any]) -> bool:
    columns, rows = document.get("columns"), document.get("data")
    return (
        isinstance(columns, list)
        and isinstance(rows, list)
        and _all(str, columns)
        and _all(list, rows)
    )


def _is_numbered(values: dict[str, Any]) -> bool:
    return bool(values) and all(key.isdecimal() for key in values)


def _are_columns(document: dict[str, Any]) -> bool:
    """Say whether an object has a column under each key, and no record's fields."""
    values = list(document.values())
    if _all(dict, values):
        return all(_is_numbered(value) for value in values)
    return (
        _all(list, values)
        and len(values) > 1
        and not any(_is_message(item) for value in values for item in value)
    )


def _from_columns(document: dict[str, Any], name: str) -> Iterator[Raw]:
    if _all(dict, document.values()):
        keys = list(dict.fromkeys(key for value in document.values() for key in value))
        columns = [[value.get(key) for key in keys] for value in document.values()]
    else:
        columns = list(document.values())
    lengths = {key: len(column) for key, column in zip(document, columns, strict=True)}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{key} {length}" for key, length in lengths.items())
        detail = f"columns of different lengths: {found}; write a record a line"
        yield Raw(f"{name}:1", None, DropReason.wrong_types, detail)
        return
    for number, row in enumerate(zip(*columns, strict=True), 1):
        yield Raw(f"{name}:{number}", dict(zip(document, row, strict=True)))


def _all(kind: type, values: Any) -> bool:
    values = list(values)
    return bool(values) and all(isinstance(value, kind) for value in values)
