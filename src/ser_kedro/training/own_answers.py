"""Pairs that need no label: a prompt's own answer beside an answer to another prompt.

A reward model is trained on them before it sees a human label (RBS, arXiv 2603.02225).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, TypedDict

import numpy as np
import pyarrow as pa

from ser_kedro.errors import DataError
from ser_kedro.preferences.schema import PAIRS, Message, Pair
from ser_kedro.store.job import Job
from ser_kedro.store.references import TableRef
from ser_kedro.store.tables import BATCH, Rows, read_table, write_table

HELD_SHARE = 0.05
_RESPONSES = ("response_a", "response_b")


class OwnAnswers(TypedDict):
    """What to train on, and what of it is held out to calibrate on."""

    pairs: TableRef
    held: TableRef


class OwnAnswersJob(Job[OwnAnswers]):
    """Put both responses of each pair of a pool beside a response to another prompt.

    Attributes:
        pool: Pairs without labels.
        seed: Draws the other prompts, and the ones that are held out.
    """

    stage: ClassVar[str] = "own_answers"
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "pyarrow")

    pool: TableRef
    seed: int

    @property
    def title(self) -> str:
        """What it does, for the log."""
        return f"Put {self.pool.rows:,} pairs' answers beside those of other prompts"

    def work(self, workspace: Path) -> OwnAnswers:
        """Write ``pairs`` and ``held``: no prompt is asked in both.

        A response that is the other prompt's as well tells nothing and is left out.

        Raises:
            DataError: If the pool is of one prompt.
        """
        pool = read_table(self.pool)
        _, groups = np.unique(pool["group"].to_pylist(), return_inverse=True)
        count = int(groups.max(initial=-1)) + 1
        if count < 2:
            raise DataError(
                "reward.pretrain: the pool is of one prompt, so that there are no"
                " answers to others; leave reward.pretrain at none, or give more"
                " prompts"
            )
        rng = np.random.default_rng(self.seed)
        held = rng.permutation(count) < max(1, round(HELD_SHARE * count))
        parts = {"pairs": ~held[groups], "held": held[groups]}
        others = other_rows(groups, rng)
        tables = {
            name: write_table(
                workspace, name, _paired(pool, np.flatnonzero(rows), others), PAIRS
            )
            for name, rows in parts.items()
        }
        return OwnAnswers(pairs=tables["pairs"], held=tables["held"])


def other_rows(groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw for both responses of each row the row of another prompt.

    Args:
        groups: Number of each row's prompt group, of two at least, shape ``(n,)``.
        rng: What draws.

    Returns:
        Rows, shape ``(n, 2)``, uniform over those of all other groups.
    """
    order = np.argsort(groups, kind="stable")
    first = np.searchsorted(groups[order], groups)
    size = np.bincount(groups)[groups]
    # Places after the own group, around the end of the order.
    steps = rng.integers(0, (len(groups) - size)[:, None], (len(groups), 2))
    return np.asarray(order[((first + size)[:, None] + steps) % len(groups)])


def _paired(
    pool: pa.Table, rows: np.ndarray, others: np.ndarray
) -> Iterator[pa.RecordBatch]:
    read = Rows(pool)
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH]
        own = read.take(part).to_pylist()
        for side, (name, other) in enumerate((_RESPONSES, _RESPONSES[::-1])):
            theirs = read.take(others[part, side])[other].to_pylist()
            both = zip(own, theirs, strict=True)
            found = [
                _row(row, row[name], text) for row, text in both if row[name] != text
            ]
            yield pa.RecordBatch.from_pylist(found, PAIRS)


def _row(own: dict[str, Any], chosen: str, rejected: str) -> dict[str, Any]:
    turns = tuple(Message(**turn) for turn in own["prompt"])
    kept = {name: own[name] for name in ("group", "prompt", "source")}
    # Features are looked up by it, so it must tell different texts apart.
    name = Pair(turns, chosen, rejected).pair_id
    return {**kept, "pair_id": name, "chosen": chosen, "rejected": rejected}
