"""Write the rewards that a method's model gives to the test pairs: ``OUTCOMES``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal, TypedDict, get_args

import pyarrow as pa
import pyarrow.compute as pc

from ser_kedro.models.calibration import Calibration
from ser_kedro.store.job import Job
from ser_kedro.store.references import TableRef
from ser_kedro.store.tables import read_table, write_table

Phase = Literal["development", "confirmation"]
Study = Literal["methods", "efficiency"]
PHASES: tuple[Phase, ...] = get_args(Phase)
STUDIES: tuple[Study, ...] = get_args(Study)
DEVELOPMENT, CONFIRMATION = PHASES
COMPARISON, EFFICIENCY = STUDIES

# One row a test pair, method and seed. ``study`` is the comparison of the methods at
# one share of labels, or the curve of label efficiency over several. ``share`` is the
# share of the reward model's pairs that kept their human label; ``offset`` and
# ``temperature`` are the model's, fitted on validation pairs: a threshold sees
# ``σ((reward - offset) / temperature)``. ``pair_id`` and ``group`` (the prompt group)
# name the same pair and prompt for every method and seed of one data set; the demo
# world is redrawn with the seed, so there they differ between seeds. ``excess_length``
# is that of the chosen response over the rejected one, in characters.
OUTCOMES = pa.schema(
    [
        ("data", pa.string()),
        ("phase", pa.string()),
        ("study", pa.string()),
        ("share", pa.float64()),
        ("method", pa.string()),
        ("seed", pa.int64()),
        ("pair_id", pa.string()),
        ("group", pa.string()),
        ("source", pa.string()),
        ("chosen_reward", pa.float32()),
        ("rejected_reward", pa.float32()),
        ("offset", pa.float64()),
        ("temperature", pa.float64()),
        ("excess_length", pa.int32()),
    ]
)


class OutcomeOutputs(TypedDict):
    """A table of ``OUTCOMES``."""

    outcomes: TableRef


class OutcomeJob(Job[OutcomeOutputs]):
    """Join the scores of the test pairs with what they are scores of.

    Attributes:
        scores: Of the test pairs, from the method's model.
        test_pairs: The test pairs.
        calibration: The model's.
        data: What the data are called.
        share: Share of the reward model's pairs that kept their label.
        phase: One of ``PHASES``.
        study: One of ``STUDIES``.
        method: Name of the method.
        seed: Random seed of the run.
    """

    stage: ClassVar[str] = "outcomes"
    libraries: ClassVar[tuple[str, ...]] = ("pyarrow",)

    scores: TableRef
    test_pairs: TableRef
    calibration: Calibration
    data: str
    phase: Phase
    study: Study
    share: float
    method: str
    seed: int

    @property
    def title(self) -> str:
        """What it does, for the log."""
        return f"Keep the test rewards of {self.method}, seed {self.seed}"

    def work(self, workspace: Path) -> OutcomeOutputs:
        """Write ``outcomes``, one row a test pair, in the order of the test pairs."""
        pairs, scores = read_table(self.test_pairs), read_table(self.scores)
        columns = {
            "data": [self.data] * len(pairs),
            "phase": [self.phase] * len(pairs),
            "study": [self.study] * len(pairs),
            "share": [self.share] * len(pairs),
            "method": [self.method] * len(pairs),
            "seed": [self.seed] * len(pairs),
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
    """Concatenate the outcomes of several methods and seeds.

    Attributes:
        parts: From ``OutcomeJob``.
    """

    stage: ClassVar[str] = "outcomes"
    libraries: ClassVar[tuple[str, ...]] = ("pyarrow",)

    parts: tuple[TableRef, ...]

    @property
    def title(self) -> str:
        """What it does, for the log."""
        return f"Put {len(self.parts)} outcomes together"

    def work(self, workspace: Path) -> OutcomeOutputs:
        """Write ``outcomes``, streaming from part to part."""

        def batches() -> Iterator[pa.RecordBatch]:
            for part in self.parts:
                yield from read_table(part).to_batches()

        return {"outcomes": write_table(workspace, "outcomes", batches(), OUTCOMES)}
