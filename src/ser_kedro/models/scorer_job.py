"""What jobs have in common that apply a reward model to texts."""

from __future__ import annotations

from typing import ClassVar, Generic

from ser_kedro.models.params import Scoring
from ser_kedro.store.job import Job, Outputs
from ser_kedro.store.references import ModelRef


class ScorerJob(Scoring, Job[Outputs], Generic[Outputs]):
    """Base of jobs that apply a reward model, as ``Scoring`` says.

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
