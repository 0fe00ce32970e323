"""Train a committee: its features first, each text read once."""

from __future__ import annotations

from ser_kedro.launch.executor import run
from ser_kedro.launch.params import LauncherParams
from ser_kedro.models.features_job import BackboneJob
from ser_kedro.models.scoring import compute_features
from ser_kedro.store.references import AnyTable, ModelRef, TableRef
from ser_kedro.training.committee_job import TrainCommitteeJob
from ser_kedro.training.committee_params import CommitteeParams, check_views
from ser_kedro.training.params import RewardParams


def train_committee(
    *,
    start: ModelRef,
    pairs: tuple[TableRef, ...],
    pool: AnyTable | None,
    params: CommitteeParams,
    reward: RewardParams,
    seed: int,
    launcher: LauncherParams,
    texts: tuple[TableRef, ...] | None = None,
) -> ModelRef:
    """Compute features of a start model, and fit a committee on them.

    Args:
        start: A language model, an encoder or a reward model, which stays as it is.
        pairs: As of ``TrainCommitteeJob``, like all that follows.
        pool: As there.
        params: As there.
        reward: As there, and how the start model is applied.
        seed: As there.
        launcher: How jobs run.
        texts: Tables that hold all of ``pairs``, of which features are made; ``pairs``
            themselves if not given.
    """
    check_views(len(reward.views))
    backbone = run(BackboneJob(start=start), launcher)["model"]
    tables: list[AnyTable] = [*(texts or pairs)]
    if pool is not None:
        tables.append(pool)
    features = tuple(
        compute_features(backbone, table, reward.scoring, launcher)
        for table in dict.fromkeys(tables)
    )
    job = TrainCommitteeJob(
        backbone=backbone,
        features=features,
        pairs=pairs,
        pool=pool,
        params=params,
        reward=reward,
        seed=seed,
    )
    return run(job, launcher)["model"]
