"""Nodes of ``self_evolve``: each passes its inputs on once the loops have stopped."""

from __future__ import annotations

from typing import Any

from ser_kedro.evolution.params import EvolutionParams
from ser_kedro.evolution.state import EvolutionState
from ser_kedro.evolution.state import begin as begin_state
from ser_kedro.evolution.state import skip as skip_loop
from ser_kedro.launch.params import LauncherParams
from ser_kedro.launch.reference import (
    NOTHING,
    HasReference,
    Reference,
    reference_of,
)
from ser_kedro.pipelines.self_evolve.loops import max_loops
from ser_kedro.reward import steps
from ser_kedro.reward.params import RewardParams

State = dict[str, Any]


def begin(seed_reward_model: HasReference, unlabeled_pairs: HasReference) -> State:
    """Start from the seed model and the whole pool."""
    pool = reference_of(unlabeled_pairs)
    return begin_state(reference_of(seed_reward_model), pool.rows or 0).model_dump(
        mode="json"
    )


def self_label(
    unlabeled_pairs: HasReference,
    previous_model: HasReference,
    previous_state: State,
    reward: RewardParams,
    launcher: LauncherParams,
) -> Reference:
    """Score the pool with the previous loop's model."""
    state = EvolutionState.model_validate(previous_state)
    if state.stopped:
        return NOTHING
    return steps.self_label(
        model=reference_of(previous_model),
        unlabeled_pairs=reference_of(unlabeled_pairs),
        state=state,
        params=reward,
        launcher=launcher,
    )


def select(
    scores: HasReference,
    unlabeled_pairs: HasReference,
    previous_model: HasReference,
    previous_state: State,
    self_evolve: EvolutionParams,
    launcher: LauncherParams,
) -> tuple[Reference, Reference]:
    """Keep the pairs the model is confident about, labelled by it."""
    state = EvolutionState.model_validate(previous_state)
    if state.stopped:
        return NOTHING, NOTHING
    return steps.select_confident(
        scores=reference_of(scores),
        model=reference_of(previous_model),
        unlabeled_pairs=reference_of(unlabeled_pairs),
        state=state,
        params=self_evolve,
        launcher=launcher,
    )


def retrain(
    selection: HasReference,
    previous_model: HasReference,
    seed_reward_model: HasReference,
    sft_model: HasReference,
    labeled_pairs: HasReference,
    unlabeled_pairs: HasReference,
    validation_pairs: HasReference,
    previous_state: State,
    self_evolve: EvolutionParams,
    reward: RewardParams,
    seed: int,
    launcher: LauncherParams,
) -> Reference:
    """Train on the selection; pass the model on where there is nothing to learn."""
    state = EvolutionState.model_validate(previous_state)
    model = reference_of(previous_model)
    if state.stopped or steps.has_stopped(reference_of(selection)):
        return model
    return steps.retrain(
        model=model,
        seed_model=reference_of(seed_reward_model),
        sft_model=reference_of(sft_model),
        selection=reference_of(selection),
        labeled_pairs=(reference_of(labeled_pairs),),
        unlabeled_pairs=reference_of(unlabeled_pairs),
        validation_pairs=reference_of(validation_pairs),
        state=state,
        params=self_evolve,
        reward=reward,
        seed=seed,
        launcher=launcher,
    )


def judge_progress(
    reward_model: HasReference,
    scores: HasReference,
    selection: HasReference,
    remaining: HasReference,
    previous_state: State,
    self_evolve: EvolutionParams,
) -> State:
    """Compare with the best model so far on the validation pairs; stop or go on."""
    state = EvolutionState.model_validate(previous_state)
    if state.stopped:
        return skip_loop(state).model_dump(mode="json")
    return steps.judge_progress(
        model=reference_of(reward_model),
        scores=reference_of(scores),
        selection=reference_of(selection),
        remaining=reference_of(remaining),
        state=state,
        params=self_evolve,
        last_loop=self_evolve.last_loop(max_loops()),
    ).model_dump(mode="json")


def finish(
    last_state: State,
    sft_model: HasReference,
    labeled_pairs: HasReference,
    unlabeled_pairs: HasReference,
    validation_pairs: HasReference,
    self_evolve: EvolutionParams,
    reward: RewardParams,
    seed: int,
    launcher: LauncherParams,
) -> tuple[Reference, list[dict[str, Any]]]:
    """Return the model that is kept, refitted if asked, and the record of each loop."""
    state = EvolutionState.model_validate(last_state)
    if self_evolve.refit:
        state = steps.refit(
            state=state,
            sft_model=reference_of(sft_model),
            labeled_pairs=reference_of(labeled_pairs),
            unlabeled_pairs=reference_of(unlabeled_pairs),
            validation_pairs=reference_of(validation_pairs),
            params=self_evolve,
            reward=reward,
            seed=seed,
            launcher=launcher,
        )
    return state.best, [
        {
            **record.model_dump(mode="json"),
            "selected_model": record.loop == state.best_loop,
        }
        for record in state.records
    ]
