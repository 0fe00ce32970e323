"""Tables: Arrow files that are written as they come and read through memory maps."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc

from ser_kedro.launch.job import Output
from ser_kedro.launch.reference import Reference

BATCH = 4096
_PREVIEW_WIDTH = 120


class _HashingFile:
    """A binary file that hashes what passes through it."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._hash = hashlib.sha256()
        self.closed = False

    def write(self, data: Any) -> int:
        self._hash.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()
        self.closed = True

    def hexdigest(self) -> str:
        return self._hash.hexdigest()[:32]


def write_table(
    workspace: Path,
    name: str,
    batches: Iterable[pa.RecordBatch | pa.Table],
    schema: pa.Schema,
    metrics: dict[str, Any] | None = None,
) -> Output:
    """Write batches to ``<workspace>/<name>.arrow`` as they come.

    Args:
        workspace: The job's workspace.
        name: Name of the table.
        batches: Record batches or tables of the given schema, in order.
        schema: The schema of all of them.
        metrics: What to say about the table.

    Returns:
        The output, with the hash of the file's bytes as digest.
    """
    path = workspace / f"{name}.arrow"
    sink = _HashingFile(path)
    rows = 0
    with pa.ipc.new_stream(pa.PythonFile(sink, mode="w"), schema) as writer:
        for batch in batches:
            writer.write(batch)
            rows += batch.num_rows
    sink.close()
    return Output(
        kind="table",
        file=path.name,
        digest=sink.hexdigest(),
        rows=rows,
        metrics=metrics or {},
    )


def read_table(reference: Reference) -> pa.Table:
    """Return a table of the store, memory-mapped: rows are read when they are used."""
    return map_table(reference.location)


def map_table(path: Path) -> pa.Table:
    """Return the Arrow stream file at ``path``, memory-mapped."""
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_stream(source).read_all()


class Rows:
    """Rows of a memory-mapped table by their numbers, reading no more than those.

    ``pyarrow.Table.take`` joins the chunks of a text column in memory first, so that a
    few rows of a large table would cost as much as all of it.
    """

    def __init__(self, table: pa.Table) -> None:
        """Take a table, memory-mapped or not."""
        self._schema = table.schema
        self._batches = table.to_batches()
        self._starts = np.cumsum([0, *(batch.num_rows for batch in self._batches)])

    def take(self, indices: Any) -> pa.RecordBatch:
        """Return the rows at ``indices``, array-like of int64, in that order."""
        wanted = np.asarray(indices, np.int64)
        if not len(wanted):
            return pa.RecordBatch.from_pylist([], schema=self._schema)
        chunks = np.searchsorted(self._starts, wanted, side="right") - 1
        by_chunk = np.argsort(chunks, kind="stable")
        numbers, firsts = np.unique(chunks[by_chunk], return_index=True)
        parts = [
            self._batches[number].take(pa.array(wanted[rows] - self._starts[number]))
            for number, rows in zip(
                numbers, np.split(by_chunk, firsts[1:]), strict=True
            )
        ]
        joined = pa.concat_batches(parts)
        return joined.take(pa.array(np.argsort(by_chunk, kind="stable")))


def reorder(
    table: pa.Table, indices: Any, batch: int = BATCH
) -> Iterable[pa.RecordBatch]:
    """Yield the rows at ``indices``, in that order, a batch at a time.

    Args:
        table: Any table, memory-mapped or not.
        indices: Row numbers, array-like of int64 of shape ``(n,)``.
        batch: Rows a batch.
    """
    rows = Rows(table)
    for start in range(0, len(indices), batch):
        yield rows.take(indices[start : start + batch])


def preview_rows(reference: Reference, rows: int) -> tuple[list[str], list[list[str]]]:
    """Return the columns and the first rows of a table as short texts."""
    table = read_table(reference).slice(0, rows)
    data = [[_short(value) for value in row.values()] for row in table.to_pylist()]
    return table.column_names, data


def _short(value: Any) -> str:
    if isinstance(value, list):
        value = " ".join(f"{turn['role']}: {turn['content']}" for turn in value)
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    return text if len(text) <= _PREVIEW_WIDTH else text[: _PREVIEW_WIDTH - 1] + "…"
