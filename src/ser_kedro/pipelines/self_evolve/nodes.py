"""Nodes of ``self_evolve``: each builds the loop and takes one step of it."""

from __future__ import annotations

from ser_kedro.launch.params import LauncherParams
from ser_kedro.pipelines.self_evolve.loops import max_loops
from ser_kedro.self_evolution.loop import EvolutionLoop, Selected
from ser_kedro.self_evolution.params import EvolutionParams
from ser_kedro.self_evolution.state import EvolutionData, EvolutionState
from ser_kedro.self_evolution.state import begin as begin_state
from ser_kedro.store.references import ModelRef, Nothing, SelectionRef, TableRef
from ser_kedro.training.params import RewardParams


def begin(
    seed_reward_model: ModelRef,
    sft_model: ModelRef,
    labeled_pairs: TableRef,
    validation_pairs: TableRef,
    pool_pairs: TableRef,
) -> EvolutionState:
    """Start from the seed model and the whole pool."""
    data = EvolutionData(
        labeled_pairs=labeled_pairs,
        validation_pairs=validation_pairs,
        unlabeled_pairs=pool_pairs,
        sft_model=sft_model,
    )
    return begin_state(data, seed_reward_model)


def self_label(
    previous_state: EvolutionState,
    self_evolve: EvolutionParams,
    reward: RewardParams,
    seed: int,
    launcher: LauncherParams,
) -> TableRef | Nothing:
    """Score the pool with the previous loop's model."""
    loop = _loop(previous_state, self_evolve, reward, seed, launcher)
    return loop.self_label(previous_state)


def select(
    previous_state: EvolutionState,
    scores: TableRef | Nothing,
    self_evolve: EvolutionParams,
    reward: RewardParams,
    seed: int,
    launcher: LauncherParams,
) -> Selected:
    """Keep the pairs that the model is confident about, labelled by it."""
    loop = _loop(previous_state, self_evolve, reward, seed, launcher)
    return loop.select(previous_state, scores)


def retrain(
    previous_state: EvolutionState,
    selection: SelectionRef | Nothing,
    self_evolve: EvolutionParams,
    reward: RewardParams,
    seed: int,
    launcher: LauncherParams,
) -> ModelRef:
    """Train on the selection; pass the model on where there is nothing to learn."""
    loop = _loop(previous_state, self_evolve, reward, seed, launcher)
    return loop.retrain(previous_state, selection)


def judge_progress(
    previous_state: EvolutionState,
    reward_model: ModelRef,
    scores: TableRef | Nothing,
    selection: SelectionRef | Nothing,
    remaining: TableRef | Nothing,
    self_evolve: EvolutionParams,
    reward: RewardParams,
    seed: int,
    launcher: LauncherParams,
) -> EvolutionState:
    """Compare with the best model so far on the validation pairs; stop or go on."""
    loop = _loop(previous_state, self_evolve, reward, seed, launcher)
    return loop.judge_progress(
        previous_state, reward_model, scores, selection, remaining
    )


def finish(
    last_state: EvolutionState,
    self_evolve: EvolutionParams,
    reward: RewardParams,
    seed: int,
    launcher: LauncherParams,
) -> tuple[ModelRef, EvolutionState]:
    """Return the model that is kept, what each loop did, and what to compare with."""
    loop = _loop(last_state, self_evolve, reward, seed, launcher)
    state = loop.compared(loop.finish(last_state))
    return state.best, state


def _loop(
    state: EvolutionState,
    self_evolve: EvolutionParams,
    reward: RewardParams,
    seed: int,
    launcher: LauncherParams,
) -> EvolutionLoop:
    loops = self_evolve.last_loop(max_loops())
    return EvolutionLoop(state.data, self_evolve, reward, seed, loops, launcher)
