"""Parameters of evaluation."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class EvaluationParams(BaseModel):
    """How figures on the test pairs are reported.

    Attributes:
        confidence: Of the intervals.
        resamples: Bootstrap samples of the prompt groups.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    confidence: float = Field(0.95, gt=0, lt=1)
    resamples: int = Field(2000, ge=100)
