"""The steps of the loop, over references: the road and the control arms share them."""

from __future__ import annotations

import numpy as np

from ser_kedro.evolution.params import EvolutionParams
from ser_kedro.evolution.progress import Outcome, compare, has_collapsed, judge
from ser_kedro.evolution.state import EvolutionState, LoopRecord, advance
from ser_kedro.evolution.status import Status
from ser_kedro.launch.params import LauncherParams
from ser_kedro.launch.reference import AnyTable, ModelRef, SelectionRef, TableRef
from ser_kedro.launch.run import run
from ser_kedro.reward.average import AverageJob
from ser_kedro.reward.calibrate import Calibration, log_losses
from ser_kedro.reward.params import RewardParams
from ser_kedro.reward.refit import RefitJob
from ser_kedro.reward.select import SelectJob
from ser_kedro.reward.validation import validation_rewards
from ser_kedro.reward.vote import VoteJob
from ser_kedro.reward.voters import (
    calibration_of,
    is_alone,
    score,
    train,
    voters_of,
    without_voters,
)


def train_seed(
    *,
    sft_model: ModelRef,
    labeled_pairs: tuple[TableRef, ...],
    validation_pairs: TableRef,
    params: RewardParams,
    seed: int,
    launcher: LauncherParams,
) -> ModelRef:
    """Train a reward model on human labels only; on the few of them, loop 0's."""
    return train(
        start=sft_model,
        pairs=labeled_pairs,
        texts=labeled_pairs,
        validation=validation_pairs,
        params=params,
        seed=seed,
        launcher=launcher,
    )


def self_label(
    *,
    model: ModelRef,
    unlabeled_pairs: TableRef,
    state: EvolutionState,
    params: RewardParams,
    launcher: LauncherParams,
) -> TableRef:
    """Score what is left of the pool with the previous loop's model, or its voters."""
    voters = voters_of(model)
    scores = tuple(
        score(voter, unlabeled_pairs, params, launcher, state.remaining)
        for voter in voters
    )
    if len(voters) == 1:
        return scores[0]
    job = VoteJob(scores=scores, calibrations=tuple(map(calibration_of, voters)))
    return run(job, launcher)["scores"]


def select_confident(
    *,
    scores: TableRef,
    model: ModelRef,
    unlabeled_pairs: TableRef,
    state: EvolutionState,
    params: EvolutionParams,
    launcher: LauncherParams,
) -> tuple[SelectionRef, TableRef]:
    """Select the pairs the model is confident about.

    Returns:
        The selection, with self-labels, and the rows that stay in the pool.
    """
    job = SelectJob(
        scores=scores,
        pairs=unlabeled_pairs,
        loop=state.loop + 1,
        # Votes are calibrated already.
        calibration=calibration_of(model) if is_alone(model) else Calibration(),
        params=params.selection,
    )
    outputs = run(job, launcher)
    return outputs["selection"], outputs["remaining"]


def has_stopped(selection: SelectionRef) -> bool:
    """Say whether the status rule found too few pairs to learn from."""
    return selection.status == Status.STOP


def retrain(
    *,
    model: ModelRef,
    seed_model: ModelRef,
    sft_model: ModelRef,
    selection: SelectionRef,
    labeled_pairs: tuple[TableRef, ...],
    unlabeled_pairs: TableRef,
    validation_pairs: TableRef,
    state: EvolutionState,
    params: EvolutionParams,
    reward: RewardParams,
    seed: int,
    launcher: LauncherParams,
) -> ModelRef:
    """Train on the selection, earlier ones and the human labels, as asked."""
    start = {"previous": model, "seed": seed_model, "sft": sft_model}[params.start]
    pairs: list[AnyTable] = [selection, *_earlier(state, params)]
    if params.keep_seed_labels:
        pairs.extend(labeled_pairs)
    changes = {"epochs": params.epochs, "dropout": params.dropout}
    given = {name: value for name, value in changes.items() if value is not None}
    trained = train(
        start=start,
        pairs=tuple(pairs),
        texts=(*labeled_pairs, unlabeled_pairs),
        validation=validation_pairs,
        params=reward.model_copy(update=given),
        # Each loop shuffles anew, and a new head differs from the last one.
        seed=seed + state.loop + 1,
        launcher=launcher,
    )
    if params.average == "none":
        return trained
    members = voters_of(trained) if params.average == "voters" else (model, trained)
    average = AverageJob(
        models=members, validation=validation_pairs, params=without_voters(reward)
    )
    mean = run(average, launcher)["model"]
    metrics = {**trained.metrics, **mean.metrics}
    return mean.model_copy(update={"metrics": metrics, "voters": trained.voters})


def refit(
    *,
    state: EvolutionState,
    sft_model: ModelRef,
    labeled_pairs: TableRef,
    unlabeled_pairs: TableRef,
    validation_pairs: TableRef,
    params: EvolutionParams,
    reward: RewardParams,
    seed: int,
    launcher: LauncherParams,
) -> EvolutionState:
    """Train the kept loop's model again, on the pairs too that chose it.

    Returns:
        The state with that model as the best, in a record of its own, whose status
        names the loop.
    """
    human = (labeled_pairs, validation_pairs)
    loop, seed_model = state.best_loop, state.records[0].model
    kept = state.records[loop]
    if params.average != "voters":
        reward = without_voters(reward)
    if kept.selection is None or seed_model is None:
        trained = train_seed(
            sft_model=sft_model,
            labeled_pairs=human,
            validation_pairs=validation_pairs,
            params=reward,
            seed=seed,
            launcher=launcher,
        )
    else:
        before = state.records[loop - 1]
        trained = retrain(
            model=before.model or seed_model,
            seed_model=seed_model,
            sft_model=sft_model,
            selection=kept.selection,
            labeled_pairs=human,
            unlabeled_pairs=unlabeled_pairs,
            validation_pairs=validation_pairs,
            state=state.model_copy(
                update={"records": state.records[:loop], "memory": before.selection}
            ),
            params=params.model_copy(update={"keep_seed_labels": True}),
            reward=reward,
            seed=seed,
            launcher=launcher,
        )
    job = RefitJob(model=trained, held_out=state.best)
    record = LoopRecord(
        loop=state.loop + 1,
        status=f"refit {loop}",
        pool=state.pool_left,
        selected=0,
        pool_left=state.records[-1].pool_left,
        outcome="refit",
        model=run(job, launcher)["model"],
    )
    return state.model_copy(
        update={
            "best_loop": record.loop,
            "best": record.model,
            "records": (*state.records, record),
        }
    )


def _earlier(state: EvolutionState, params: EvolutionParams) -> list[SelectionRef]:
    if params.memory == "all":
        records = reversed(state.records)
        return [record.selection for record in records if record.selection]
    previous = params.memory == "previous" and state.memory is not None
    return [state.memory] if previous and state.memory else []


def judge_progress(
    *,
    model: ModelRef,
    scores: TableRef,
    selection: SelectionRef,
    remaining: TableRef,
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
        status=selection.status,
        pool=state.pool_left,
        selected=selection.rows,
        pool_left=remaining.rows / max(1, state.pool_size),
        outcome=outcome,
        difference=comparison.difference if comparison else None,
        standard_error=comparison.standard_error if comparison else None,
        model=model if trained else None,
        scores=scores,
        selection=selection,
        remaining=remaining,
    )
    return advance(
        state, record, last_loop=last_loop, remaining=remaining, memory=selection
    )


def _validation_losses(model: ModelRef) -> np.ndarray:
    chosen, rejected = validation_rewards(model)
    return log_losses((chosen - rejected) / calibration_of(model).temperature)
