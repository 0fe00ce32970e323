"""The job that fits a committee of views, and the steps before it."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from ser_kedro.launch.executor import run
from ser_kedro.launch.params import LauncherParams
from ser_kedro.models.features_job import BackboneJob
from ser_kedro.models.scoring import compute_views
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
        features: Views of all pairs below, from ``ViewsJob``.
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


def train_committee(
    *,
    start: ModelRef,
    pairs: tuple[TableRef, ...],
    pool: AnyTable | None,
    params: CommitteeParams,
    reward: RewardParams,
    seed: int,
    launcher: LauncherParams,
) -> ModelRef:
    """Compute the views of a start model, and fit a committee on them.

    Args:
        start: A language model, an encoder or a reward model, which stays as it is.
        pairs: As of ``TrainCommitteeJob``, like all that follows.
        pool: As there.
        params: As there.
        reward: As there, and how the start model is applied.
        seed: As there.
        launcher: How jobs run.
    """
    backbone = run(BackboneJob(start=start), launcher)["model"]
    tables: tuple[AnyTable, ...] = (*pairs, *(() if pool is None else (pool,)))
    views = tuple(
        compute_views(backbone, table, params.views, reward.scoring, launcher)
        for table in dict.fromkeys(tables)
    )
    job = TrainCommitteeJob(
        backbone=backbone,
        features=views,
        pairs=pairs,
        pool=pool,
        params=params,
        reward=reward,
        seed=seed,
    )
    return run(job, launcher)["model"]
