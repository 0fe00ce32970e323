"""The job that trains a head on a frozen model."""

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


class TrainHeadJob(Job[ModelOutputs]):
    """Train the head alone, with the losses, weights and labels of full training.

    Attributes:
        start: What the head goes on from, if it is one on the same backbone.
        backbone: From ``BackboneJob``.
        features: Of all pairs below.
        pairs: As of ``TrainRewardJob``.
        validation: As there.
        params: As there.
        seed: Draws the order of the pairs, and a hidden layer's first weights.
    """

    stage: ClassVar[str] = "reward_model"
    libraries: ClassVar[tuple[str, ...]] = (
        "torch",
        "transformers",
        "safetensors",
        "scipy",
    )

    start: ModelRef
    backbone: ModelRef
    features: tuple[TableRef, ...]
    pairs: tuple[AnyTable, ...]
    validation: TableRef
    params: RewardParams
    seed: int

    @property
    def title(self) -> str:
        """What it does, for the log."""
        return f"Train a reward head on {pairs_text(self.pairs)}"

    def work(self, workspace: Path) -> ModelOutputs:
        """Write ``model``: a folder as ``TrainRewardJob`` writes, weights shared."""
        from ser_kedro.training.head import train_head

        metrics = train_head(
            self.start,
            self.backbone,
            self.features,
            self.pairs,
            self.validation,
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
            backbone=self.backbone,
        )
        return {"model": made}
