"""Parameters of evaluation."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from ser_kedro.evaluation.benchmarks.params import ExternalTest


class EvaluationParams(BaseModel):
    """How figures on the test pairs are reported.

    Attributes:
        confidence: Of the intervals.
        resamples: Bootstrap samples of the prompt groups, for the figures of one run.
        power: With which a difference is to be found where it is real.
        bins: Of the reliability curve, and of difficulty.
        consistency_pairs: Test pairs that are also scored in other wordings; 0: none.
        external_tests: Further test sets, each scored by the seed and the kept model.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    confidence: float = Field(0.95, gt=0, lt=1)
    resamples: int = Field(2000, ge=100)
    power: float = Field(0.8, gt=0.5, lt=1)
    bins: int = Field(10, ge=2)
    consistency_pairs: int = Field(200, ge=0)
    external_tests: tuple[ExternalTest, ...] = ()
