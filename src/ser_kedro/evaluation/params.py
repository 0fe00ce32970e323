"""Parameters of evaluation."""

from __future__ import annotations

from pydantic import Field

from ser_kedro.evaluation.benchmarks.params import Benchmark
from ser_kedro.statistics.params import StatisticsParams


class EvaluationParams(StatisticsParams):
    """How figures on the test pairs are reported.

    Attributes:
        bins: Of the reliability curve, and of difficulty.
        consistency_pairs: Test pairs that are also scored in other wordings; 0: none.
        benchmarks: More test sets, each scored by the seed and the kept model.
    """

    bins: int = Field(10, ge=2)
    consistency_pairs: int = Field(200, ge=0)
    benchmarks: tuple[Benchmark, ...] = ()
