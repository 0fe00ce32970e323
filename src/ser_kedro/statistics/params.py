"""How sure an estimate is to be."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class StatisticsParams(BaseModel):
    """Confidence of intervals, and power of comparisons.

    Attributes:
        confidence: Of the intervals.
        resamples: Bootstrap samples of the prompt groups, for the figures of one run.
        power: With which a difference is to be found where it is real.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    confidence: float = Field(0.95, gt=0, lt=1)
    resamples: int = Field(2000, ge=100)
    power: float = Field(0.8, gt=0.5, lt=1)
