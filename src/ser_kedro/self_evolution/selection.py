"""The job that turns scores into a selection."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ser_kedro.models.calibration import Calibration
from ser_kedro.preferences.schema import PAIRS
from ser_kedro.self_evolution.params import SelectionParams
from ser_kedro.self_evolution.status import Selection, select
from ser_kedro.store.job import Job
from ser_kedro.store.references import SelectionRef, TableRef
from ser_kedro.store.tables import read_table, reorder, write_table

SELECTED = pa.schema(
    [
        *PAIRS,
        pa.field("p_chosen", pa.float64()),
        pa.field("p_rejected", pa.float64()),
        pa.field("a_preferred", pa.bool_()),
    ]
)
# The probability of the label, which training takes for a soft one.
SOFT = SELECTED.append(pa.field("soft_label", pa.float32()))
REMAINING = pa.schema([("row", pa.int64())])
_RESPONSES = ("response_a", "response_b")


class SelectOutputs(TypedDict):
    """The pairs that a loop learns from, and the rows that it leaves in the pool."""

    selection: SelectionRef
    remaining: TableRef


class SelectJob(Job[SelectOutputs]):
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

    scores: TableRef
    pairs: TableRef
    loop: int
    calibration: Calibration
    params: SelectionParams

    @property
    def title(self) -> str:
        """What it does, for the log."""
        return f"Select pairs for loop {self.loop} among {self.scores.rows:,}"

    def work(self, workspace: Path) -> SelectOutputs:
        """Write ``selection`` (pairs with self-labels) and ``remaining`` (rows)."""
        scores = read_table(self.scores)
        rows = scores["row"].to_numpy()
        p_a, p_b = (
            self.calibration.probabilities(scores[name].to_numpy())
            for name in ("reward_a", "reward_b")
        )
        pairs = read_table(self.pairs)
        strata = _strata(pairs, rows, p_a > p_b, self.params)
        selection = select(p_a, p_b, loop=self.loop, params=self.params, strata=strata)
        taken = np.zeros(len(rows), bool)
        taken[selection.chosen] = True
        left = pa.RecordBatch.from_arrays([pa.array(rows[~taken])], schema=REMAINING)
        counts = {
            "easy": selection.easy,
            "hard": selection.hard,
            "needed": selection.needed,
        }
        schema = SOFT if self.params.labels == "soft" else SELECTED
        labelled = _label(pairs, rows[selection.chosen], selection, p_a, p_b, schema)
        table = write_table(workspace, "selection", labelled, schema, counts)
        return {
            "selection": as_selection(table, selection.status),
            "remaining": write_table(workspace, "remaining", [left], REMAINING),
        }


def as_selection(table: TableRef, status: str) -> SelectionRef:
    """Return a reference to a table of selected pairs, which knows their status."""
    return SelectionRef(**table.model_dump(exclude={"kind"}), status=status)


def _strata(
    pairs: pa.Table, rows: np.ndarray, prefers_a: np.ndarray, params: SelectionParams
) -> np.ndarray | None:
    """Return the stratum of each scored pair, shape ``(n,)``; ``None``: no balance."""
    if params.balance == "none":
        return None
    if params.balance == "source":
        names = [name for b in reorder(pairs, rows) for name in b["source"].to_pylist()]
        return np.unique(names, return_inverse=True)[1] if names else np.empty(0, int)
    a_is_longer = [np.empty(0, bool)]
    for batch in reorder(pairs, rows):
        one, two = (pc.utf8_length(batch[name]) for name in _RESPONSES)
        a_is_longer.append(pc.greater(one, two).to_numpy(zero_copy_only=False))
    return (np.concatenate(a_is_longer) == prefers_a).astype(np.int64)


def _label(
    pairs: pa.Table,
    rows: np.ndarray,
    selection: Selection,
    p_a: np.ndarray,
    p_b: np.ndarray,
    schema: pa.Schema,
) -> Iterator[pa.RecordBatch]:
    done = 0
    for batch in reorder(pairs, rows):
        part = slice(done, done + batch.num_rows)
        prefers_a = selection.a_preferred[part]
        index = selection.chosen[part]
        one, two = (batch[name].to_pylist() for name in _RESPONSES)
        chosen = [x if a else y for x, y, a in zip(one, two, prefers_a, strict=True)]
        rejected = [y if a else x for x, y, a in zip(one, two, prefers_a, strict=True)]
        columns = {
            **{name: batch[name] for name in ("pair_id", "group", "prompt", "source")},
            "chosen": chosen,
            "rejected": rejected,
            "p_chosen": np.maximum(p_a[index], p_b[index]),
            "p_rejected": np.minimum(p_a[index], p_b[index]),
            "a_preferred": prefers_a,
            "soft_label": selection.confidence[part].astype(np.float32),
        }
        named = {name: columns[name] for name in schema.names}
        yield pa.RecordBatch.from_pydict(named, schema)
        done += batch.num_rows
