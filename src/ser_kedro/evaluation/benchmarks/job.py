"""Score a further test set with our scorer."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import ClassVar, TypedDict

import pyarrow as pa

from ser_kedro.evaluation.benchmarks.params import ExternalTest
from ser_kedro.models.log_filters import quiet
from ser_kedro.models.scorer_job import ScorerJob
from ser_kedro.store.references import TableRef
from ser_kedro.store.tables import write_table

# One row a response; an item's right responses come first.
EXTERNAL = pa.schema(
    [
        ("item", pa.int64()),
        ("name", pa.string()),
        ("group", pa.string()),
        ("subset", pa.string()),
        ("right", pa.bool_()),
        ("reward", pa.float32()),
    ]
)
_SHARD = 512
# Before the reason for which rows were dropped, among the metrics.
DROPPED = "dropped_"


class ExternalOutputs(TypedDict):
    """A table of ``EXTERNAL``."""

    scores: TableRef


class ScoreExternalJob(ScorerJob[ExternalOutputs]):
    """Rewards of every response of a further test set.

    Attributes:
        test: The test set; it counts by its content.
    """

    stage: ClassVar[str] = "external_scores"

    test: ExternalTest

    @quiet()
    def work(self, workspace: Path) -> ExternalOutputs:
        """Write ``scores``; rows that were dropped are counted in its metrics.

        Raises:
            DataError: If the test set cannot be read.
        """
        from ser_kedro.evaluation.benchmarks.read import Item, read_items

        dropped: Counter[str] = Counter()
        items = list(read_items(self.test, dropped))
        scorer = self.scorer()

        def batch(first: int, part: list[Item]) -> pa.RecordBatch:
            rows = [
                (first + number, item, side, text)
                for number, item in enumerate(part)
                for side, texts in ((True, item.right), (False, item.wrong))
                for text in texts
            ]
            prompts = [
                [{"role": turn.role, "content": turn.content} for turn in item.prompt]
                for _, item, _, _ in rows
            ]
            rewards = scorer.text_rewards(prompts, [text for *_, text in rows])
            return pa.RecordBatch.from_arrays(
                [
                    pa.array([number for number, *_ in rows], pa.int64()),
                    pa.array([item.name for _, item, _, _ in rows]),
                    pa.array([item.group for _, item, _, _ in rows]),
                    pa.array([item.subset for _, item, _, _ in rows]),
                    pa.array([side for _, _, side, _ in rows], pa.bool_()),
                    pa.array(rewards, pa.float32()),
                ],
                schema=EXTERNAL,
            )

        batches = (
            batch(first, items[first : first + _SHARD])
            for first in range(0, len(items), _SHARD)
        )
        lost = {f"{DROPPED}{reason}": count for reason, count in dropped.items()}
        metrics = {"items": len(items), **lost}
        return {"scores": write_table(workspace, "scores", batches, EXTERNAL, metrics)}
