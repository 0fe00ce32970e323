"""The steps of the loop, over references: the road and the control arms share them."""

from __future__ import annotations

import numpy as np

from ser_kedro.evolution.params import EvolutionParams
from ser_kedro.evolution.progress import Outcome, compare, has_collapsed, judge
from ser_kedro.evolution.state import EvolutionState, LoopRecord, advance
from ser_kedro.evolution.status import Status
from ser_kedro.launch.params import LauncherParams
from ser_kedro.launch.reference import Reference
from ser_kedro.launch.run import run
from ser_kedro.reward.calibrate import Calibration, log_losses
from ser_kedro.reward.params import RewardParams
from ser_kedro.reward.score import ScoreJob
from ser_kedro.reward.select import SelectJob
from ser_kedro.reward.train import TrainRewardJob
from ser_kedro.reward.validation import validation_rewards


def train_seed(
    *,
    sft_model: Reference,
    labeled_pairs: tuple[Reference, ...],
    validation_pairs: Reference,
    params: RewardParams,
    seed: int,
    launcher: LauncherParams,
) -> Reference:
    """Train a reward model on human labels only; on the few of them, loop 0's."""
    job = TrainRewardJob(
        start=sft_model,
        pairs=labeled_pairs,
        validation=validation_pairs,
        params=params,
        seed=seed,
    )
    return run(job, launcher)["model"]


def score(
    model: Reference,
    pairs: Reference,
    params: RewardParams,
    launcher: LauncherParams,
    rows: Reference | None = None,
) -> Reference:
    """Score a table of pairs, or the ``rows`` of it."""
    job = ScoreJob(
        model=model,
        pairs=pairs,
        rows=rows,
        max_length=params.max_length,
        score_tokens=params.score_tokens,
        packing=params.packing,
        precision=params.precision,
    )
    return run(job, launcher)["scores"]


def self_label(
    *,
    model: Reference,
    unlabeled_pairs: Reference,
    state: EvolutionState,
    params: RewardParams,
    launcher: LauncherParams,
) -> Reference:
    """Score what is left of the pool with the previous loop's model."""
    return score(model, unlabeled_pairs, params, launcher, state.remaining)


def select_confident(
    *,
    scores: Reference,
    model: Reference,
    unlabeled_pairs: Reference,
    state: EvolutionState,
    params: EvolutionParams,
    launcher: LauncherParams,
) -> tuple[Reference, Reference]:
    """Select the pairs the model is confident about.

    Returns:
        The selection, with self-labels, and the rows that stay in the pool.
    """
    job = SelectJob(
        scores=scores,
        pairs=unlabeled_pairs,
        loop=state.loop + 1,
        calibration=Calibration.load(model.location),
        params=params,
    )
    outputs = run(job, launcher)
    return outputs["selection"], outputs["remaining"]


def has_stopped(selection: Reference) -> bool:
    """Say whether the status rule found too few pairs to learn from."""
    return bool(selection.metrics["status"] == Status.STOP)


def retrain(
    *,
    model: Reference,
    seed_model: Reference,
    sft_model: Reference,
    selection: Reference,
    labeled_pairs: Reference,
    validation_pairs: Reference,
    state: EvolutionState,
    params: EvolutionParams,
    reward: RewardParams,
    seed: int,
    launcher: LauncherParams,
) -> Reference:
    """Train on the selection, the previous one and the human labels, as asked."""
    start = {"previous": model, "seed": seed_model, "sft": sft_model}[params.start]
    pairs = [selection]
    if params.memory and state.memory is not None:
        pairs.append(state.memory)
    if params.keep_seed_labels:
        pairs.append(labeled_pairs)
    if params.epochs is not None:
        reward = reward.model_copy(update={"epochs": params.epochs})
    job = TrainRewardJob(
        start=start,
        pairs=tuple(pairs),
        validation=validation_pairs,
        params=reward,
        # Each loop shuffles anew, and a new head differs from the last one.
        seed=seed + state.loop + 1,
    )
    return run(job, launcher)["model"]


def judge_progress(
    *,
    model: Reference,
    scores: Reference,
    selection: Reference,
    remaining: Reference,
    state: EvolutionState,
    params: EvolutionParams,
    last_loop: int,
) -> EvolutionState:
    """Decide what came of the loop, whether to go on, and which model to keep."""
    trained = not has_stopped(selection)
    rewards = np.concatenate(validation_rewards(model))
    comparison = None
    if not trained:
        # A model that ranks nothing selects nothing: the first says why.
        collapsed = has_collapsed(rewards)
        outcome = Outcome.COLLAPSED if collapsed else Outcome.NO_CONFIDENT_PAIRS
    else:
        best, new = _validation_losses(state.best), _validation_losses(model)
        comparison = compare(best, new)
        outcome = judge(
            rewards=rewards,
            best_losses=best,
            new_losses=new,
            without_gain=state.without_gain,
            params=params,
        )
    record = LoopRecord(
        loop=state.loop + 1,
        status=selection.metrics["status"],
        pool=state.pool_left,
        selected=selection.rows or 0,
        pool_left=(remaining.rows or 0) / max(1, state.pool_size),
        outcome=outcome,
        difference=comparison.difference if comparison else None,
        standard_error=comparison.standard_error if comparison else None,
        model=model if trained else None,
        scores=scores,
        selection=selection,
    )
    return advance(
        state, record, last_loop=last_loop, remaining=remaining, memory=selection
    )


def _validation_losses(model: Reference) -> np.ndarray:
    chosen, rejected = validation_rewards(model)
    calibration = Calibration.load(model.location)
    return log_losses((chosen - rejected) / calibration.temperature)
