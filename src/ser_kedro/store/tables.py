"""Tables: Arrow files that are written as they come and read through memory maps."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc

from ser_kedro.store.fingerprints import hash_file
from ser_kedro.store.json_io import write_json
from ser_kedro.store.references import AnyTable, DocumentRef, TableRef

BATCH = 4096


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
    metrics: Mapping[str, float] | None = None,
) -> TableRef:
    """Write batches to ``<workspace>/<name>.arrow`` as they come.

    Args:
        workspace: The job's workspace.
        name: Name of the table.
        batches: Record batches or tables of the given schema, in order.
        schema: The schema of all of them.
        metrics: Numbers to say about the table.

    Returns:
        A reference to it, by the hash of the file's bytes.
    """
    path = workspace / f"{name}.arrow"
    sink = _HashingFile(path)
    rows = 0
    with pa.ipc.new_stream(pa.PythonFile(sink, mode="w"), schema) as writer:
        for batch in batches:
            writer.write(batch)
            rows += batch.num_rows
    sink.close()
    return TableRef(
        path=path.name,
        fingerprint=sink.hexdigest(),
        rows=rows,
        metrics=dict(metrics or {}),
    )


def write_document(workspace: Path, name: str, value: Any) -> DocumentRef:
    """Write a JSON document to ``<workspace>/<name>.json``.

    Args:
        workspace: The job's workspace.
        name: Name of the document.
        value: What JSON can hold.

    Returns:
        A reference to it, by the hash of the file's bytes.
    """
    path = workspace / f"{name}.json"
    write_json(path, value)
    return DocumentRef(path=path.name, fingerprint=hash_file(path)[:32])


def read_table(reference: AnyTable) -> pa.Table:
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
