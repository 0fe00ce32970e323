"""Score pairs: stream a table through a reward model."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypedDict

import numpy as np
import pyarrow as pa

from ser_kedro.launch import rank
from ser_kedro.models.log_filters import quiet
from ser_kedro.models.scorer_job import ScorerJob
from ser_kedro.store.job import NOT_MINE
from ser_kedro.store.references import AnyTable, TableRef
from ser_kedro.store.tables import BATCH, Rows, read_table, write_table

if TYPE_CHECKING:
    from ser_kedro.models.scorer import Scorer

SHARDS = "shards"

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


class ScoreJob(ScorerJob[ScoreOutputs]):
    """Rewards of both responses of each pair of a table.

    Attributes:
        pairs: A table of pairs; ``a`` is its ``response_a`` or ``chosen``.
        rows: A table whose column ``row`` names the rows to score; ``None``: all.
    """

    stage: ClassVar[str] = "scores"
    distributed: ClassVar[bool] = True

    pairs: AnyTable
    rows: TableRef | None = None

    @quiet()
    def work(self, workspace: Path) -> ScoreOutputs:
        """Write ``scores``: row, pair_id, reward_a, reward_b."""
        from ser_kedro.models.distributed import meet

        met = meet(self.precision, workspace)  # kept: ZeRO 3 lasts as long as it does
        pairs = read_table(self.pairs)
        if self.rows is None:
            rows = np.arange(pairs.num_rows)
        else:
            rows = read_table(self.rows)["row"].to_numpy()
        scorer = self.scorer()
        order = _by_prompt(pairs, rows)
        parts = _score_shards(scorer, pairs, rows[order], workspace / SHARDS)
        del met
        if not rank.is_main():
            return NOT_MINE
        rewards = np.empty((len(rows), 2), np.float32)
        rewards[order] = np.concatenate(
            [np.empty((0, 2), np.float32), *map(np.load, parts)]
        )
        scores = score_batches(pairs, rows, rewards)
        output = write_table(workspace, "scores", scores, SCORES)
        shutil.rmtree(workspace / SHARDS)
        return {"scores": output}


def _by_prompt(pairs: pa.Table, rows: np.ndarray) -> np.ndarray:
    """Return an order of the rows in which pairs of like prompts are neighbours."""
    import pandas as pd

    keys = [
        pd.util.hash_array(batch["group"].to_numpy(zero_copy_only=False))
        for batch in pairs.select(["group"]).to_batches()
    ]
    return np.argsort(
        np.concatenate([*keys, np.empty(0, np.uint64)])[rows], kind="stable"
    )


def _score_shards(
    scorer: Scorer, pairs: pa.Table, rows: np.ndarray, folder: Path
) -> list[Path]:
    """Score the rows, shard by shard, each rank its own; return all shards' files.

    Shards that an earlier run wrote are kept.
    """
    from tqdm import tqdm

    from ser_kedro.models.scorer import SHARD

    folder.mkdir(exist_ok=True)
    table = Rows(pairs)
    world = rank.world_size()
    size = max(1, min(SHARD, math.ceil(len(rows) / world)))
    shards = {
        folder / f"{start}-{size}.npy": rows[start : start + size]
        for start in range(0, len(rows), size)
    }
    mine = list(shards.items())[rank.rank() :: world]
    count = sum(len(shard) for _, shard in mine)
    with tqdm(total=count, desc="scoring", unit="pair", disable=None) as bar:
        for file, shard in mine:
            if not file.is_file():
                _save(file, scorer.batch_rewards(table.take(shard)))
            bar.update(len(shard))
    scorer.join()
    rank.barrier()
    return list(shards)


def _save(file: Path, rewards: np.ndarray) -> None:
    # Renamed once it is on the disk: a shard is whole or not there.
    partial = file.with_suffix(".partial")
    with partial.open("wb") as stream:
        np.save(stream, rewards)
        stream.flush()
        os.fsync(stream.fileno())
    partial.rename(file)


def score_batches(
    pairs: pa.Table, rows: np.ndarray, rewards: np.ndarray
) -> Iterator[pa.RecordBatch]:
    """Yield rewards of shape ``(n, 2)`` of the pairs at ``rows`` as ``SCORES``."""
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
