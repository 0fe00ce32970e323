"""The job that fits a committee of views."""

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
from ser_kedro.training.committee_params import CommitteeParams
from ser_kedro.training.params import RewardParams


class TrainCommitteeJob(Job[ModelOutputs]):
    """Fit a committee of views on human labels, co-trained on the pool if it helps.

    Attributes:
        backbone: From ``BackboneJob``.
        features: Of all pairs below, with views, from ``FeaturesJob``.
        pairs: Tables of human labels.
        pool: Pairs without labels; ``None``: the labels alone.
        params: How.
        reward: How labels count, and whether a temperature is fitted.
        seed: Draws the folds, and the part of the pool that is read.
    """

    stage: ClassVar[str] = "committee"
    libraries: ClassVar[tuple[str, ...]] = (
        "numpy",
        "scikit-learn",
        "scipy",
        "safetensors",
    )

    backbone: ModelRef
    features: tuple[TableRef, ...]
    pairs: tuple[TableRef, ...]
    pool: AnyTable | None
    params: CommitteeParams
    reward: RewardParams
    seed: int

    @property
    def title(self) -> str:
        """What it does, for the log."""
        return f"Fit a committee of views on {pairs_text(self.pairs)}"

    def work(self, workspace: Path) -> ModelOutputs:
        """Write ``model``: a head on views, with its calibration out of fold."""
        from ser_kedro.training.fit_committee import fit_committee

        metrics = fit_committee(
            self.backbone.location,
            self.features,
            self.pairs,
            self.pool,
            self.params,
            self.reward,
            self.seed,
            workspace / "model",
        )
        made = ModelRef(
            kind="committee",
            path="model",
            fingerprint=self.fingerprint,
            base_model=self.backbone.base_model,
            metrics=metrics,
            backbone=self.backbone,
        )
        return {"model": made}
