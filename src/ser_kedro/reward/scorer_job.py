"""What all jobs have in common that apply a reward model to texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ser_kedro.launch.job import Job
from ser_kedro.launch.reference import Reference
from ser_kedro.reward.params import Scoring

if TYPE_CHECKING:
    from ser_kedro.reward.scorer import Scorer


class ScorerJob(Scoring, Job):
    """A job that applies a reward model, as ``Scoring`` says.

    Attributes:
        model: The reward model.
    """

    libraries: ClassVar[tuple[str, ...]] = (
        "torch",
        "transformers",
        "tokenizers",
        "trl",
    )

    model: Reference

    def scorer(self) -> Scorer:
        """Load the model."""
        from ser_kedro.reward.scorer import Scorer

        return Scorer.load(self.model.location, self)
