"""The job that lets a policy answer prompts."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, TypedDict

from ser_kedro.policy.ppo_params import PpoParams
from ser_kedro.store.job import Job
from ser_kedro.store.references import ModelRef, TableRef


class AnswerOutputs(TypedDict):
    """A table of ``ANSWERS``."""

    answers: TableRef


class AnswersJob(Job[AnswerOutputs]):
    """Let a policy answer prompts, one of each group.

    The same seed draws the same prompts, and the same random numbers for each policy.

    Attributes:
        model: The policy, a whole language model.
        start: The model that it was trained from; ``kl`` is the distance to it.
        prompts: A table with columns ``group`` and ``prompt``.
        count: Prompts, at most.
        batch_size: Answers that are written at once.
        params: How to sample.
        seed: Draws prompts and answers.
    """

    stage: ClassVar[str] = "answers"
    libraries: ClassVar[tuple[str, ...]] = ("torch", "transformers", "tokenizers")

    model: ModelRef
    start: ModelRef
    prompts: TableRef
    count: int
    batch_size: int
    params: PpoParams
    seed: int

    @property
    def title(self) -> str:
        """What it does, for the log."""
        return f"Answer {self.count:,} prompts"

    def work(self, workspace: Path) -> AnswerOutputs:
        """Write ``answers``; ``kl`` is in nats along each answer."""
        from ser_kedro.policy.answers import write_answers

        answers = write_answers(
            self.model.location,
            self.start.location,
            self.prompts,
            self.count,
            self.batch_size,
            self.params,
            self.seed,
            workspace,
        )
        return {"answers": answers}
