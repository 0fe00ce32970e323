"""The job that trains a reward model, every weight of it or adapters."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from ser_kedro.store.job import Job
from ser_kedro.store.references import (
    AnyTable,
    ModelOutputs,
    ModelRef,
    TableRef,
    pairs_text,
)
from ser_kedro.training.params import RewardParams


class TrainRewardJob(Job[ModelOutputs]):
    """Train a reward model on tables of pairs; calibrate it on held-out ones.

    Attributes:
        start: A language model, an encoder or a reward model to go on from.
        pairs: Tables with ``prompt``, ``chosen``, ``rejected`` and, where they have
            them, ``weight`` (default 1) and ``soft_label`` (default 1).
        validation: Labelled pairs that no training reads.
        pool: Pairs without labels, where ``params.lm_pool`` wants them.
        params: How to train.
        seed: Draws the head, where it is new, and the order of the pairs.
    """

    stage: ClassVar[str] = "reward_model"
    distributed: ClassVar[bool] = True
    libraries: ClassVar[tuple[str, ...]] = (
        "torch",
        "transformers",
        "trl",
        "peft",
        "accelerate",
        "tokenizers",
        "scipy",
    )

    start: ModelRef
    pairs: tuple[AnyTable, ...]
    validation: TableRef
    pool: TableRef | None = None
    params: RewardParams
    seed: int

    @property
    def title(self) -> str:
        """What it does, for the log."""
        return f"Train a reward model on {pairs_text(self.pairs)}"

    def work(self, workspace: Path) -> ModelOutputs:
        """Write ``model``: weights, tokenizer, calibration, validation rewards."""
        from ser_kedro.training.reward import train_reward

        metrics = train_reward(
            self.start,
            self.pairs,
            self.validation,
            self.pool,
            self.params,
            self.seed,
            workspace,
        )
        made = ModelRef(
            kind="reward_model",
            path="model",
            fingerprint=self.fingerprint,
            base_model=self.start.base_model,
            metrics=metrics,
        )
        return {"model": made}
