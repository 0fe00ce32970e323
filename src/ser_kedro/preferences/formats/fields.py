"""The fields of a record, whatever its columns are called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ser_kedro.errors import printable
from ser_kedro.preferences.records import BadRow, DropReason, Record

Columns = Mapping[str, tuple[str, ...]]


class Fields:
    """A record, read by what its columns mean.

    Attributes:
        used: Columns of the record that were asked for and had a value.
    """

    def __init__(self, record: Record, columns: Columns) -> None:
        """Read a record.

        Args:
            record: Its columns and values.
            columns: Names of columns by what they mean; the first that has a value
                counts. A dot goes into an object: ``question.full_text``.
        """
        self.record = record
        self.columns = columns
        self.used: set[str] = set()

    def get(self, name: str) -> Any:
        """Return the value that means ``name``; ``None`` where there is none."""
        for column in self.columns.get(name, ()):
            value = _inside(self.record, column)
            if value is not None:
                self.used.add(column if column in self.record else column.split(".")[0])
                return value
        return None

    def need(self, name: str) -> Any:
        """Return the value that means ``name``.

        Raises:
            BadRow: If there is none.
        """
        value = self.get(name)
        if value is None:
            found = ", ".join(sorted(map(str, self.record))[:8]) or "nothing"
            raise BadRow(
                DropReason.missing_keys, f"no {self.called(name)}; found: {found}"
            )
        return value

    def text(self, name: str) -> str:
        """Return the text that means ``name``.

        Raises:
            BadRow: If there is none, or it is no text.
        """
        value = self.need(name)
        if not isinstance(value, str):
            kind = type(value).__name__
            raise BadRow(
                DropReason.wrong_types, f"{self.called(name)} is {kind}, not text"
            )
        return value

    def optional_text(self, name: str) -> str:
        """Return the text that means ``name``; an empty one where there is none."""
        value = self.get(name)
        return value if isinstance(value, str) else ""

    def called(self, name: str) -> str:
        """Return the columns that mean ``name``, for a message."""
        return " or ".join(self.columns.get(name, ())[:3]) or name

    @property
    def unused(self) -> list[str]:
        """Columns that hold a text and were not read, to be shown."""
        return [
            printable(key)
            for key, value in self.record.items()
            if key not in self.used and _has_text(value)
        ]


def _inside(record: Record, column: str) -> Any:
    if column in record or "." not in column:
        return record.get(column)
    value: Any = record
    for key in column.split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def _has_text(value: Any) -> bool:
    if isinstance(value, str):
        return bool(value.strip())
    if isinstance(value, dict):
        return any(map(_has_text, value.values()))
    return isinstance(value, list) and any(map(_has_text, value))
