"""Score pairs: stream a table through a reward model."""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from tqdm import tqdm

from ser_kedro.launch import rank
from ser_kedro.models.distributed import init_scoring
from ser_kedro.models.params import Scoring
from ser_kedro.models.scorer import SHARD, Scorer
from ser_kedro.models.scores import write_scores
from ser_kedro.store.references import AnyTable, TableRef
from ser_kedro.store.tables import Rows, read_table

SHARDS = "shards"


def score_table(
    folder: Path,
    pairs: AnyTable,
    rows: TableRef | None,
    scoring: Scoring,
    workspace: Path,
) -> TableRef | None:
    """Score pairs and write a table of ``SCORES``; begun work is resumed.

    Args:
        folder: A reward model's folder.
        pairs: A table of pairs; ``a`` is its ``response_a`` or ``chosen``.
        rows: A table whose column ``row`` names the rows to score; ``None``: all.
        scoring: How the model is applied.
        workspace: A folder of this work alone, which all ranks share.

    Returns:
        The table; ``None`` in a rank that is not the first.
    """
    group = init_scoring(scoring.precision, workspace)  # ZeRO 3 lasts as long as it
    table = read_table(pairs)
    if rows is None:
        chosen = np.arange(table.num_rows)
    else:
        chosen = read_table(rows)["row"].to_numpy()
    scorer = Scorer.load(folder, scoring)
    order = _by_prompt(table, chosen)
    parts = _score_shards(scorer, table, chosen[order], workspace / SHARDS)
    del group
    if not rank.is_main():
        return None
    rewards = np.empty((len(chosen), 2), np.float32)
    rewards[order] = np.concatenate(
        [np.empty((0, 2), np.float32), *map(np.load, parts)]
    )
    output = write_scores(workspace, table, chosen, rewards)
    shutil.rmtree(workspace / SHARDS)
    return output


def _by_prompt(pairs: pa.Table, rows: np.ndarray) -> np.ndarray:
    """Return an order of the rows in which pairs of like prompts are neighbours."""
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
