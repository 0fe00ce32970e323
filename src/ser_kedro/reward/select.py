"""The job that turns scores into a selection."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa

from ser_kedro.evolution.params import EvolutionParams
from ser_kedro.evolution.status import Selection, select
from ser_kedro.launch.job import Job, Output
from ser_kedro.launch.reference import Reference
from ser_kedro.launch.table import read_table, reorder, write_table
from ser_kedro.preferences.schema import LABELED
from ser_kedro.reward.calibrate import Calibration

SELECTED = pa.schema(
    [
        *LABELED,
        pa.field("p_chosen", pa.float64()),
        pa.field("p_rejected", pa.float64()),
        pa.field("a_preferred", pa.bool_()),
    ]
)
REMAINING = pa.schema([("row", pa.int64())])


class SelectJob(Job):
    """Keep the pairs that the reward model is confident about, with its labels.

    Attributes:
        scores: Rewards of the pool, from ``ScoreJob``.
        pairs: ``unlabeled_pairs``.
        loop: Number of the loop, from 1.
        calibration: Of the model that gave the scores.
        params: The rule and its thresholds.
    """

    stage: ClassVar[str] = "selection"
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "pyarrow")

    scores: Reference
    pairs: Reference
    loop: int
    calibration: Calibration
    params: EvolutionParams

    def work(self, workspace: Path) -> dict[str, Output]:
        """Write ``selection`` (pairs with self-labels) and ``remaining`` (rows)."""
        scores = read_table(self.scores)
        rows = scores["row"].to_numpy()
        p_a, p_b = (
            self.calibration.probabilities(scores[name].to_numpy())
            for name in ("reward_a", "reward_b")
        )
        selection = select(p_a, p_b, loop=self.loop, params=self.params)
        taken = np.zeros(len(rows), bool)
        taken[selection.chosen] = True
        left = pa.RecordBatch.from_arrays([pa.array(rows[~taken])], schema=REMAINING)
        summary = {
            "status": selection.status.value,
            "easy": selection.easy,
            "hard": selection.hard,
            "needed": selection.needed,
        }
        labelled = _label(
            read_table(self.pairs), rows[selection.chosen], selection, p_a, p_b
        )
        return {
            "selection": write_table(
                workspace, "selection", labelled, SELECTED, summary
            ),
            "remaining": write_table(workspace, "remaining", [left], REMAINING),
        }


def _label(
    pairs: pa.Table,
    rows: np.ndarray,
    selection: Selection,
    p_a: np.ndarray,
    p_b: np.ndarray,
) -> Iterator[pa.RecordBatch]:
    done = 0
    for batch in reorder(pairs, rows):
        part = slice(done, done + batch.num_rows)
        prefers_a = selection.a_preferred[part]
        index = selection.chosen[part]
        one, two = batch["response_a"].to_pylist(), batch["response_b"].to_pylist()
        chosen = [x if a else y for x, y, a in zip(one, two, prefers_a, strict=True)]
        rejected = [y if a else x for x, y, a in zip(one, two, prefers_a, strict=True)]
        yield pa.RecordBatch.from_arrays(
            [
                batch["pair_id"],
                batch["group"],
                batch["prompt"],
                pa.array(chosen, pa.string()),
                pa.array(rejected, pa.string()),
                batch["source"],
                pa.array(np.maximum(p_a[index], p_b[index])),
                pa.array(np.minimum(p_a[index], p_b[index])),
                pa.array(prefers_a),
            ],
            schema=SELECTED,
        )
        done += batch.num_rows
