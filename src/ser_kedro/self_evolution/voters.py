"""Several reward models that are trained side by side and label together."""

from __future__ import annotations

import logging

from ser_kedro.launch.params import LauncherParams
from ser_kedro.self_evolution.crossfit import (
    crossfits,
    cut_into_folds,
    judged_unseen,
)
from ser_kedro.store.references import AnyTable, ModelRef, TableRef
from ser_kedro.training.params import RewardParams
from ser_kedro.training.reward_model import calibrate_ready, train_reward_model

logger = logging.getLogger(__name__)

# Apart from the seeds of loops, which count from the run's own.
_VOTER_SEED = 1000


def voters_of(model: ModelRef) -> tuple[ModelRef, ...]:
    """Return the models that label together: this one first, often alone."""
    return (model, *model.voters)


def seed_model(
    *,
    start: ModelRef,
    labeled: TableRef,
    validation: TableRef,
    params: RewardParams,
    folds: int,
    seed: int,
    launcher: LauncherParams,
    texts: tuple[TableRef, ...] = (),
    pool: TableRef | None = None,
) -> ModelRef:
    """Return the model of loop 0, trained on the human labels alone.

    A ready reward model is loop 0 as it is, calibrated; the loops go on from it.

    Args:
        start: As of ``train_voters``.
        labeled: The human labels to train on.
        validation: Those that are held out; without any the model is judged by
            cross-fitting.
        params: As of ``train_voters``.
        folds: Of the cross-fitting.
        seed: As of ``train_voters``.
        launcher: As there.
        texts: As there; the labels themselves if not given.
        pool: As there.
    """
    unseen = labeled if crossfits(validation) else validation
    if start.kind == "reward_model":
        if params.pretrain != "none":
            logger.warning(
                "reward.pretrain=%s: no effect, since %s is a reward model already",
                params.pretrain,
                start.base_model,
            )
        ready = calibrate_ready(start, unseen, params, launcher)
        if not crossfits(validation):
            return ready
        # Fold by fold, in the order in which every loop's model is judged.
        held_out = [held for _, held in cut_into_folds(labeled, folds, seed, launcher)]
        alike = [calibrate_ready(start, each, params, launcher) for each in held_out]
        return judged_unseen(ready, alike, params, launcher)

    def train(pairs: TableRef, held_out: TableRef) -> ModelRef:
        return train_voters(
            start=start,
            pairs=(pairs,),
            validation=held_out,
            params=params,
            seed=seed,
            launcher=launcher,
            texts=texts or (labeled, unseen),
            pool=pool,
        )

    if not crossfits(validation):
        return train(labeled, validation)
    parts = cut_into_folds(labeled, folds, seed, launcher)
    models = [train(rest, held) for rest, held in parts]
    return judged_unseen(train(labeled, labeled), models, params, launcher)


def train_voters(
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
    """Train ``params.voters`` models: the first, which knows the others.

    Args:
        start: What each goes on from; where it has voters, each from its own.
        pairs: As of ``train_reward_model``.
        validation: As there.
        params: As there, and how many voters.
        seed: Of the first voter; the others have their own.
        launcher: How jobs run.
        texts: As of ``train_reward_model``.
        pool: As there.
    """
    starts = voters_of(start)
    first, *others = (
        train_reward_model(
            start=starts[voter] if voter < len(starts) else start,
            pairs=pairs,
            validation=validation,
            params=without_voters(params),
            seed=seed + _VOTER_SEED * voter,
            launcher=launcher,
            texts=texts,
            pool=pool,
        )
        for voter in range(params.voters)
    )
    return first.model_copy(update={"voters": tuple(others)})


def without_voters(params: RewardParams) -> RewardParams:
    """Return the parameters of a single voter, a model like any other."""
    return params.model_copy(update={"voters": 1})
