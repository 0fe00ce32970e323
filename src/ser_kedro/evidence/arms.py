"""Arms: what different uses of the same few labels and the same pool come to.

All arms of a draw share split, seed labels and SFT model, and are made of the same
jobs as the road, so what two of them have in common is computed once. An honest arm is
given a ``Road``, on which there is no truth about the pool to be read; a control arm is
given a ``ControlRoad``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ser_kedro.evidence.road import ControlRoad, Road
from ser_kedro.evidence.truth import LeakyFilterJob, OracleJob, RandomLabelsJob
from ser_kedro.evolution.state import EvolutionState, begin
from ser_kedro.launch.reference import ModelRef, SelectionRef, TableRef
from ser_kedro.launch.run import run
from ser_kedro.reward import steps


@dataclass(frozen=True)
class Arm:
    """What came of an arm.

    Attributes:
        model: The model that it ends with.
        labels: Human labels that it trained on.
        state: How its loops went, where it has any.
    """

    model: ModelRef
    labels: int
    state: EvolutionState | None = None


def evolve(
    road: Road, filtered: Callable[[SelectionRef], SelectionRef] = lambda kept: kept
) -> EvolutionState:
    """Run the loop outside of Kedro, on the same jobs and thus the same store.

    Args:
        road: What to run it on.
        filtered: What to do with a selection before training on it.

    Returns:
        The state after the last loop.
    """
    model = road.seed_model()
    state = begin(model, road.unlabeled_pairs.rows)
    for _ in range(road.loops):
        if state.stopped:
            break
        scores = steps.self_label(
            model=model,
            unlabeled_pairs=road.unlabeled_pairs,
            state=state,
            params=road.reward,
            launcher=road.launcher,
        )
        selection, remaining = steps.select_confident(
            scores=scores,
            model=model,
            unlabeled_pairs=road.unlabeled_pairs,
            state=state,
            params=road.evolution,
            launcher=road.launcher,
        )
        selection = filtered(selection)
        model, state = _learn(road, model, state, scores, selection, remaining)
    return state


def _learn(
    road: Road,
    model: ModelRef,
    state: EvolutionState,
    scores: TableRef,
    selection: SelectionRef,
    remaining: TableRef,
) -> tuple[ModelRef, EvolutionState]:
    if not steps.has_stopped(selection):
        model = steps.retrain(
            model=model,
            seed_model=road.seed_model(),
            sft_model=road.sft_model,
            selection=selection,
            labeled_pairs=(road.labeled_pairs,),
            unlabeled_pairs=road.unlabeled_pairs,
            validation_pairs=road.validation_pairs,
            state=state,
            params=road.evolution,
            reward=road.reward,
            seed=road.seed,
            launcher=road.launcher,
        )
    return model, steps.judge_progress(
        model=model,
        scores=scores,
        selection=selection,
        remaining=remaining,
        state=state,
        params=road.evolution,
        last_loop=road.loops,
    )


def _kept(road: Road, state: EvolutionState, told: int = 0) -> Arm:
    """Return the model that evolution ends with; ``told`` labels were looked up."""
    labels = road.labeled_pairs.rows + told
    if road.evolution.refit:
        labels += road.validation_pairs.rows
        state = steps.refit(
            state=state,
            sft_model=road.sft_model,
            labeled_pairs=road.labeled_pairs,
            unlabeled_pairs=road.unlabeled_pairs,
            validation_pairs=road.validation_pairs,
            params=road.evolution,
            reward=road.reward,
            seed=road.seed,
            launcher=road.launcher,
        )
    return Arm(state.best, labels, state)


def seed(road: Road) -> Arm:
    """Loop 0: the human labels alone."""
    return Arm(road.seed_model(), road.labeled_pairs.rows)


def seed_all(road: Road) -> Arm:
    """Train on the pairs too that otherwise only compare loops.

    What the same labels give to who does not evolve. Its temperature is fitted on pairs
    that it was trained on.
    """
    model = road.train(road.labeled_pairs, road.validation_pairs)
    return Arm(model, road.labeled_pairs.rows + road.validation_pairs.rows)


def seed_long(road: Road) -> Arm:
    """Train on the human labels for as many optimiser steps as SER took in all."""
    taken = [int(model.metrics["steps"]) for model in _models(evolve(road))]
    epochs = road.reward.epochs * sum(taken) / taken[0]
    return Arm(road.train(road.labeled_pairs, epochs=epochs), road.labeled_pairs.rows)


def ser(road: Road) -> Arm:
    """Self-evolve, and keep the loop that validation favours: the method."""
    return _kept(road, evolve(road))


def ssrm(road: Road) -> Arm:
    """Append what the model is sure of, retrain from the start, keep the last model.

    Semi-supervised reward modelling (He et al., 2024, arXiv 2409.06903), without the
    leak of its released filter.
    """
    rule = {
        "status_rule": "probability",
        "tau_preferred": 0.8,
        "min_share": 0.0,
        "min_count": 1,
        "memory": "all",
        "labels": "hard",
        "start": "sft",
    }
    return _unjudged(road, road.loops, rule)


def naive(road: Road) -> Arm:
    """Label the whole pool once and train on all of it: plain self-training."""
    rule = {
        "status_rule": "quantile",
        "quantile": 1.0,
        "labels": "hard",
        "start": "sft",
    }
    return _unjudged(road, 1, rule)


def random_labels(road: Road) -> Arm:
    """Train on the labelled pairs with labels that a coin has drawn: the floor."""
    job = RandomLabelsJob(pairs=road.labeled_pairs, seed=road.seed)
    return Arm(road.train(run(job, road.launcher)["labeled"]), 0)


def full(road: ControlRoad) -> Arm:
    """Train on every human label of the reward model's part."""
    model = road.train(road.labeled_pairs, road.true_labels())
    return Arm(model, road.labeled_pairs.rows + road.unlabeled_pairs.rows)


def more_human(road: ControlRoad) -> Arm:
    """Train on as many further human labels as SER gave labels itself."""
    given = sum(record.selected for record in evolve(road.honest()).records)
    if not given:
        return seed(road)
    further = road.true_labels(limit=given)
    model = road.train(road.labeled_pairs, further)
    return Arm(model, road.labeled_pairs.rows + further.rows)


def oracle(road: ControlRoad) -> Arm:
    """Learn from the pairs that SER selected, loop by loop, with their true labels."""
    model = road.seed_model()
    state = begin(model, road.unlabeled_pairs.rows)
    for record in evolve(road.honest()).records[1:]:
        if state.stopped or not (
            record.scores and record.selection and record.remaining
        ):
            break
        job = OracleJob(selection=record.selection, audit=road.audit_labels)
        told = run(job, road.launcher)["selection"]
        rest = record.remaining
        model, state = _learn(road, model, state, record.scores, told, rest)
    return _kept(road, state, sum(record.selected for record in state.records))


def leaky(road: ControlRoad) -> Arm:
    """Self-evolve, with the wrong self-labels removed by the truth."""

    def drop_wrong(selection: SelectionRef) -> SelectionRef:
        job = LeakyFilterJob(selection=selection, audit=road.audit_labels)
        return run(job, road.launcher)["selection"]

    state = evolve(road, drop_wrong)
    return _kept(road, state, sum(record.selected for record in state.records))


HONEST: dict[str, Callable[[Road], Arm]] = {
    "random_labels": random_labels,
    "seed": seed,
    "seed_all": seed_all,
    "seed_long": seed_long,
    "naive": naive,
    "ssrm": ssrm,
    "ser": ser,
}
CONTROLS: dict[str, Callable[[ControlRoad], Arm]] = {
    "oracle": oracle,
    "leaky": leaky,
    "more_human": more_human,
    "full": full,
}
ARMS = (*HONEST, *CONTROLS)


def run_arm(name: str, road: ControlRoad) -> Arm:
    """Run an arm of ``ARMS``; an honest one is not shown the truth."""
    if name in HONEST:
        return HONEST[name](road.honest())
    return CONTROLS[name](road)


def _unjudged(road: Road, loops: int, rule: dict[str, Any]) -> Arm:
    """Run loops that nothing stops early, and keep the last model."""
    endless = {"patience": loops + 1, "collapse_standard_errors": 1e9}
    evolution = road.evolution.model_copy(update={**rule, **endless})
    state = evolve(replace(road, evolution=evolution, loops=loops))
    return Arm(_models(state)[-1], road.labeled_pairs.rows, state)


def _models(state: EvolutionState) -> list[ModelRef]:
    return [record.model for record in state.records if record.model is not None]
