"""Score a benchmark with our scorer."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import ClassVar, TypedDict

import pyarrow as pa

from ser_kedro.evaluation.benchmarks.params import Benchmark
from ser_kedro.evaluation.benchmarks.read import Item, read_items
from ser_kedro.models.scorer_job import ScorerJob
from ser_kedro.store.references import TableRef
from ser_kedro.store.tables import write_table

# One row a response; an item's right responses come first.
BENCHMARK_SCORES = pa.schema(
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


class BenchmarkOutputs(TypedDict):
    """A table of ``BENCHMARK_SCORES``."""

    scores: TableRef


class ScoreBenchmarkJob(ScorerJob[BenchmarkOutputs]):
    """Rewards of every response of a benchmark.

    Attributes:
        test: The test set; it counts by its content.
    """

    stage: ClassVar[str] = "benchmark_scores"

    test: Benchmark

    @property
    def title(self) -> str:
        """What it does, for the log."""
        return f"Score the benchmark {self.test.name}"

    def work(self, workspace: Path) -> BenchmarkOutputs:
        """Write ``scores``; rows that were dropped are counted in its metrics.

        Raises:
            DataError: If the test set cannot be read.
        """
        from ser_kedro.models.load_scorer import load_scorer

        dropped: Counter[str] = Counter()
        items = list(read_items(self.test, dropped))
        scorer = load_scorer(self.model.location, self)

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
                schema=BENCHMARK_SCORES,
            )

        batches = (
            batch(first, items[first : first + _SHARD])
            for first in range(0, len(items), _SHARD)
        )
        lost = {f"{DROPPED}{reason}": count for reason, count in dropped.items()}
        metrics = {"items": len(items), **lost}
        return {
            "scores": write_table(
                workspace, "scores", batches, BENCHMARK_SCORES, metrics
            )
        }
