"""The job that answers the prompts of a pool."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, TypedDict

from ser_kedro.models.params import ModelParams
from ser_kedro.policy.pool_params import PoolParams
from ser_kedro.store.job import Job
from ser_kedro.store.references import ModelRef, TableRef


class PoolOutputs(TypedDict):
    """All answers, and the pairs that are formed of them."""

    answers: TableRef
    pairs: TableRef


class AnswerPoolJob(Job[PoolOutputs]):
    """Let a language model answer the prompts of a pool, several times each.

    Attributes:
        model: The language model: one of this project's, or any other.
        prompts: A table with columns ``group`` and ``prompt``.
        params: How to sample, and how many pairs to form.
        seed: Draws the answers.
    """

    stage: ClassVar[str] = "pool_answers"
    libraries: ClassVar[tuple[str, ...]] = ("torch", "transformers", "tokenizers")

    model: ModelRef | ModelParams
    prompts: TableRef
    params: PoolParams
    seed: int

    @property
    def title(self) -> str:
        """What it does, for the log."""
        return f"Answer {self.prompts.rows:,} prompts of the pool"

    def work(self, workspace: Path) -> PoolOutputs:
        """Write ``answers`` (a row an answer) and ``pairs`` (of ``UNLABELED``).

        Begun work is resumed after the last chunk that was finished.

        Raises:
            DataError: If no prompt has two different answers.
        """
        from ser_kedro.policy.pool import answer_pool

        model = self.model
        start = model.location if isinstance(model, ModelRef) else model
        answers, pairs = answer_pool(
            start, self.prompts, self.params, self.seed, workspace
        )
        return {"answers": answers, "pairs": pairs}
