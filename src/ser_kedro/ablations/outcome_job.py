"""Write what an arm's model says of the test pairs, as ``OUTCOMES``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, TypedDict

import pyarrow as pa
import pyarrow.compute as pc

from ser_kedro.ablations.outcome_schema import OUTCOMES
from ser_kedro.models.calibration import Calibration
from ser_kedro.store.job import Job
from ser_kedro.store.references import TableRef
from ser_kedro.store.tables import read_table, write_table


class OutcomeOutputs(TypedDict):
    """A table of ``OUTCOMES``."""

    outcomes: TableRef


class OutcomeJob(Job[OutcomeOutputs]):
    """Join the scores of the test pairs with what they are scores of.

    Attributes:
        scores: Of the test pairs, from the arm's model.
        test_pairs: The test pairs.
        calibration: The model's.
        data: What the data are called.
        share: Share of the reward model's pairs that kept their label.
        arm: Name of the arm.
        draw: Seed of the draw.
    """

    stage: ClassVar[str] = "outcomes"
    libraries: ClassVar[tuple[str, ...]] = ("pyarrow",)

    scores: TableRef
    test_pairs: TableRef
    calibration: Calibration
    data: str
    share: float
    arm: str
    draw: int

    def work(self, workspace: Path) -> OutcomeOutputs:
        """Write ``outcomes``, one row a test pair, in the order of the test pairs."""
        pairs, scores = read_table(self.test_pairs), read_table(self.scores)
        columns = {
            "data": [self.data] * len(pairs),
            "share": [self.share] * len(pairs),
            "arm": [self.arm] * len(pairs),
            "seed": [self.draw] * len(pairs),
            **{name: pairs[name] for name in ("pair_id", "group", "source")},
            "chosen_reward": scores["reward_a"],
            "rejected_reward": scores["reward_b"],
            "offset": [self.calibration.offset] * len(pairs),
            "temperature": [self.calibration.temperature] * len(pairs),
            "excess_length": pc.subtract(
                *(pc.utf8_length(pairs[name]) for name in ("chosen", "rejected"))
            ),
        }
        table = pa.table(columns, schema=OUTCOMES).combine_chunks()
        output = write_table(workspace, "outcomes", table.to_batches(), OUTCOMES)
        return {"outcomes": output}


class GatherJob(Job[OutcomeOutputs]):
    """Put the outcomes of several arms and draws under each other.

    Attributes:
        parts: From ``OutcomeJob``.
    """

    stage: ClassVar[str] = "outcomes"
    libraries: ClassVar[tuple[str, ...]] = ("pyarrow",)

    parts: tuple[TableRef, ...]

    def work(self, workspace: Path) -> OutcomeOutputs:
        """Write ``outcomes``, streaming from part to part."""

        def batches() -> Iterator[pa.RecordBatch]:
            for part in self.parts:
                yield from read_table(part).to_batches()

        return {"outcomes": write_table(workspace, "outcomes", batches(), OUTCOMES)}
