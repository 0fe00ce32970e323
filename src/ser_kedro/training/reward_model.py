"""Train a reward model: every weight, adapters, or a head on a frozen one."""

from __future__ import annotations

from ser_kedro.launch.executor import run
from ser_kedro.launch.params import LauncherParams
from ser_kedro.models.features_job import BackboneJob
from ser_kedro.models.scoring import compute_features, score_pairs
from ser_kedro.store.references import AnyTable, ModelRef, TableRef
from ser_kedro.training.head_job import TrainHeadJob
from ser_kedro.training.own_answers import OwnAnswersJob
from ser_kedro.training.params import RewardParams
from ser_kedro.training.reward_job import TrainRewardJob
from ser_kedro.training.reward_ready_job import CalibrateJob

# The same for every loop, fold and voter, which so share one pretraining.
_PRETRAINING_SEED = 0


def train_reward_model(
    *,
    start: ModelRef,
    pairs: tuple[AnyTable, ...],
    validation: TableRef,
    params: RewardParams,
    seed: int,
    launcher: LauncherParams,
    texts: tuple[AnyTable, ...] | None = None,
    pool: TableRef | None = None,
) -> ModelRef:
    """Train one reward model.

    Args:
        start: A language model, an encoder or a reward model to go on from.
        pairs: Labelled tables to learn from.
        validation: Labelled pairs that no training reads.
        params: How to train.
        seed: Draws a new head, and the order of the pairs.
        launcher: How jobs run.
        texts: Tables that hold all of ``pairs`` and ``validation``, of which a head's
            features are made; these themselves if not given.
        pool: Pairs without labels, for ``params.lm_pool`` and ``params.pretrain``.
    """
    if params.pretrain != "none" and pool is not None and start.kind != "reward_model":
        first, learnt, unseen = _before(pairs, validation, params, launcher, pool)
        start = train_reward_model(
            start=start,
            pairs=learnt,
            validation=unseen,
            params=first,
            seed=_PRETRAINING_SEED,
            launcher=launcher,
        )
    # Views are read beside, and change no training.
    read = _alone(params)
    if params.trainable != "head":
        job = TrainRewardJob(
            start=start,
            pairs=pairs,
            validation=validation,
            pool=None if params.lm_pool == "none" else pool,
            params=read,
            seed=seed,
        )
        return run(job, launcher)["model"]
    backbone = start.backbone
    if backbone is None:
        backbone = run(BackboneJob(start=start), launcher)["model"]
    features = tuple(
        compute_features(backbone, table, params.scoring, launcher)
        for table in dict.fromkeys(texts or (*pairs, validation))
    )
    head = TrainHeadJob(
        start=start,
        backbone=backbone,
        features=features,
        pairs=pairs,
        validation=validation,
        params=read,
        seed=seed,
    )
    return run(head, launcher)["model"]


def _before(
    pairs: tuple[AnyTable, ...],
    validation: TableRef,
    params: RewardParams,
    launcher: LauncherParams,
    pool: TableRef,
) -> tuple[RewardParams, tuple[AnyTable, ...], TableRef]:
    """Return how to pretrain, on what, and what to calibrate on."""
    answers = run(OwnAnswersJob(pool=pool, seed=_PRETRAINING_SEED), launcher)
    epochs = params.pretrain_epochs
    if params.pretrain == "answers":
        first = _alone(params).model_copy(update={"epochs": epochs})
        return first, (answers["pairs"],), answers["held"]
    epochs *= answers["pairs"].rows / sum(table.rows for table in pairs)
    return _alone(params).model_copy(update={"epochs": epochs}), pairs, validation


def _alone(params: RewardParams) -> RewardParams:
    """Return the parameters of one training, without what comes before or beside."""
    changes = {"pretrain": "none", "pretrain_epochs": 1.0, "views": ()}
    return params.model_copy(update=changes)


def calibrate_ready(
    model: ModelRef,
    validation: TableRef,
    params: RewardParams,
    launcher: LauncherParams,
    texts: TableRef | None = None,
) -> ModelRef:
    """Return a ready reward model, calibrated on the validation pairs, not trained.

    Args:
        model: A reward model that was given to start from, or a committee.
        validation: Labelled pairs that no training reads.
        params: How it is applied, and whether its scale is fitted.
        launcher: How jobs run.
        texts: As of ``score_pairs``.
    """
    scores = score_pairs(model, validation, params.scoring, launcher, texts=texts)
    job = CalibrateJob(model=model, scores=scores, temperature=params.fit_temperature)
    return run(job, launcher)["model"]
