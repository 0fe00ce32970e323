"""Nodes of ``self_evolve``: each passes its inputs on once the loops have stopped."""

from __future__ import annotations

from ser_kedro.evolution.params import EvolutionParams
from ser_kedro.evolution.state import EvolutionState
from ser_kedro.evolution.state import begin as begin_state
from ser_kedro.evolution.state import skip as skip_loop
from ser_kedro.launch.params import LauncherParams
from ser_kedro.launch.reference import (
    NOTHING,
    ModelRef,
    Nothing,
    SelectionRef,
    TableRef,
)
from ser_kedro.pipelines.self_evolve.loops import max_loops
from ser_kedro.reward import steps
from ser_kedro.reward.params import RewardParams


def begin(seed_reward_model: ModelRef, unlabeled_pairs: TableRef) -> EvolutionState:
    """Start from the seed model and the whole pool."""
    return begin_state(seed_reward_model, unlabeled_pairs.rows)


def self_label(
    unlabeled_pairs: TableRef,
    previous_model: ModelRef,
    previous_state: EvolutionState,
    reward: RewardParams,
    launcher: LauncherParams,
) -> TableRef | Nothing:
    """Score the pool with the previous loop's model."""
    if previous_state.stopped:
        return NOTHING
    return steps.self_label(
        model=previous_model,
        unlabeled_pairs=unlabeled_pairs,
        state=previous_state,
        params=reward,
        launcher=launcher,
    )


def select(
    scores: TableRef,
    unlabeled_pairs: TableRef,
    previous_model: ModelRef,
    previous_state: EvolutionState,
    self_evolve: EvolutionParams,
    launcher: LauncherParams,
) -> tuple[SelectionRef | Nothing, TableRef | Nothing]:
    """Keep the pairs the model is confident about, labelled by it."""
    if previous_state.stopped:
        return NOTHING, NOTHING
    return steps.select_confident(
        scores=scores,
        model=previous_model,
        unlabeled_pairs=unlabeled_pairs,
        state=previous_state,
        params=self_evolve,
        launcher=launcher,
    )


def retrain(
    selection: SelectionRef,
    previous_model: ModelRef,
    seed_reward_model: ModelRef,
    sft_model: ModelRef,
    labeled_pairs: TableRef,
    unlabeled_pairs: TableRef,
    validation_pairs: TableRef,
    previous_state: EvolutionState,
    self_evolve: EvolutionParams,
    reward: RewardParams,
    seed: int,
    launcher: LauncherParams,
) -> ModelRef:
    """Train on the selection; pass the model on where there is nothing to learn."""
    if previous_state.stopped or steps.has_stopped(selection):
        return previous_model
    return steps.retrain(
        model=previous_model,
        seed_model=seed_reward_model,
        sft_model=sft_model,
        selection=selection,
        labeled_pairs=(labeled_pairs,),
        unlabeled_pairs=unlabeled_pairs,
        validation_pairs=validation_pairs,
        state=previous_state,
        params=self_evolve,
        reward=reward,
        seed=seed,
        launcher=launcher,
    )


def judge_progress(
    reward_model: ModelRef,
    scores: TableRef,
    selection: SelectionRef,
    remaining: TableRef,
    previous_state: EvolutionState,
    self_evolve: EvolutionParams,
) -> EvolutionState:
    """Compare with the best model so far on the validation pairs; stop or go on."""
    if previous_state.stopped:
        return skip_loop(previous_state)
    return steps.judge_progress(
        model=reward_model,
        scores=scores,
        selection=selection,
        remaining=remaining,
        state=previous_state,
        params=self_evolve,
        last_loop=self_evolve.last_loop(max_loops()),
    )


def finish(
    last_state: EvolutionState,
    sft_model: ModelRef,
    labeled_pairs: TableRef,
    unlabeled_pairs: TableRef,
    validation_pairs: TableRef,
    self_evolve: EvolutionParams,
    reward: RewardParams,
    seed: int,
    launcher: LauncherParams,
) -> tuple[ModelRef, EvolutionState]:
    """Return the model that is kept, refitted if asked, and what each loop did."""
    state = last_state
    if self_evolve.refit:
        state = steps.refit(
            state=state,
            sft_model=sft_model,
            labeled_pairs=labeled_pairs,
            unlabeled_pairs=unlabeled_pairs,
            validation_pairs=validation_pairs,
            params=self_evolve,
            reward=reward,
            seed=seed,
            launcher=launcher,
        )
    return state.best, state
