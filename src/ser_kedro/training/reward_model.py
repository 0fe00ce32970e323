"""Train a reward model: every weight, adapters, or a head on a frozen one."""

from __future__ import annotations

from ser_kedro.launch.executor import run
from ser_kedro.launch.params import LauncherParams
from ser_kedro.models.features_job import BackboneJob
from ser_kedro.models.scoring import compute_features
from ser_kedro.store.references import AnyTable, ModelRef, TableRef
from ser_kedro.training.head_job import TrainHeadJob
from ser_kedro.training.params import RewardParams
from ser_kedro.training.reward_job import TrainRewardJob


def train_reward_model(
    *,
    start: ModelRef,
    pairs: tuple[AnyTable, ...],
    validation: TableRef,
    params: RewardParams,
    seed: int,
    launcher: LauncherParams,
    texts: tuple[AnyTable, ...] | None = None,
) -> ModelRef:
    """Train one reward model.

    Args:
        start: A language model, an encoder or a reward model to go on from.
        pairs: Labelled tables to learn from.
        validation: Labelled pairs that no training reads.
        params: How to train.
        seed: Draws a new head, and the order of the pairs.
        launcher: How jobs run.
        texts: Tables that hold all of ``pairs``, of which a head's features are made;
            ``pairs`` themselves if not given.
    """
    job = TrainRewardJob(
        start=start, pairs=pairs, validation=validation, params=params, seed=seed
    )
    if params.trainable != "head":
        return run(job, launcher)["model"]
    backbone = start.backbone
    if backbone is None:
        backbone = run(BackboneJob(start=start), launcher)["model"]
    features = tuple(
        compute_features(backbone, table, params.scoring, launcher)
        for table in dict.fromkeys((*(texts or pairs), validation))
    )
    head = TrainHeadJob(backbone=backbone, features=features, **dict(job))
    return run(head, launcher)["model"]
