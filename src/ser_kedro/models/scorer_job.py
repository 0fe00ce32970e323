"""What all jobs have in common that apply a reward model to texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Generic

from ser_kedro.store.job import Job, Outputs
from ser_kedro.store.references import ModelRef
from ser_kedro.training.params import Scoring

if TYPE_CHECKING:
    from ser_kedro.models.scorer import Scorer


class ScorerJob(Scoring, Job[Outputs], Generic[Outputs]):
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

    model: ModelRef

    def scorer(self) -> Scorer:
        """Load the model."""
        from ser_kedro.models.scorer import Scorer

        return Scorer.load(self.model.location, self)
