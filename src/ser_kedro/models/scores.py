"""Tables of scores: the rewards of both responses of each pair."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

import numpy as np
import pyarrow as pa

from ser_kedro.store.references import TableRef
from ser_kedro.store.tables import BATCH, Rows, write_table

SCORES = pa.schema(
    [
        ("row", pa.int64()),
        ("pair_id", pa.string()),
        ("reward_a", pa.float32()),
        ("reward_b", pa.float32()),
    ]
)


class ScoreOutputs(TypedDict):
    """A table of ``SCORES``."""

    scores: TableRef


def write_scores(
    workspace: Path, pairs: pa.Table, rows: np.ndarray, rewards: np.ndarray
) -> TableRef:
    """Write rewards of shape ``(n, 2)`` of the pairs at ``rows`` as ``SCORES``."""
    batches = _batches(pairs, rows, rewards)
    return write_table(workspace, "scores", batches, SCORES)


def _batches(
    pairs: pa.Table, rows: np.ndarray, rewards: np.ndarray
) -> Iterator[pa.RecordBatch]:
    ids = Rows(pairs.select(["pair_id"]))
    for start in range(0, len(rows), BATCH):
        part = slice(start, start + BATCH)
        yield pa.RecordBatch.from_arrays(
            [
                pa.array(rows[part], pa.int64()),
                ids.take(rows[part])["pair_id"],
                *(pa.array(column, pa.float32()) for column in rewards[part].T.copy()),
            ],
            schema=SCORES,
        )
