"""What all jobs have in common that apply a reward model to texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from ser_kedro.launch.job import Job
from ser_kedro.launch.reference import Reference
from ser_kedro.reward.params import Precision

if TYPE_CHECKING:
    from ser_kedro.reward.scorer import Scorer


class ScorerJob(Job):
    """A job that applies a reward model.

    Attributes:
        model: The reward model.
        max_length: Tokens of a row, as the model was trained with.
        score_tokens: Padded tokens of one batch.
        packing: Let responses share their prompt's row, where that is exact.
        precision: As in ``TrainingParams``.
    """

    libraries: ClassVar[tuple[str, ...]] = (
        "torch",
        "transformers",
        "tokenizers",
        "trl",
    )

    model: Reference
    max_length: int = Field(ge=8)
    score_tokens: int = Field(ge=8)
    packing: bool = True
    precision: Precision = "auto"

    def scorer(self) -> Scorer:
        """Load the model."""
        from ser_kedro.reward.scorer import Scorer

        return Scorer.load(
            self.model.location,
            self.max_length,
            self.score_tokens,
            packing=self.packing,
            precision=self.precision,
        )
