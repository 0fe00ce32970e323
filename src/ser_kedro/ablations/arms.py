"""Arms: what different uses of the same few labels and the same pool come to.

All arms of a draw share split, seed labels and SFT model, and are made of the same
jobs as the loop, so what two of them have in common is computed once. An honest arm is
given an ``EvolutionLoop``, on which there is no truth about the pool to be read; a
control arm is given a ``ControlLoop``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ser_kedro.ablations.control_loop import ControlLoop
from ser_kedro.ablations.oracle_labels import LeakyFilterJob, OracleJob, RandomLabelsJob
from ser_kedro.launch.executor import run
from ser_kedro.self_evolution.loop import EvolutionLoop
from ser_kedro.self_evolution.state import EvolutionState
from ser_kedro.store.references import ModelRef, SelectionRef


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


def _kept(loop: EvolutionLoop, state: EvolutionState, told: int = 0) -> Arm:
    """Return the model that evolution ends with; ``told`` labels were looked up."""
    labels = loop.data.labeled_pairs.rows + told
    if loop.params.refit:
        labels += loop.data.validation_pairs.rows
        state = loop.refit(state)
    return Arm(state.best, labels, state)


def seed(loop: EvolutionLoop) -> Arm:
    """Loop 0: the human labels alone."""
    return Arm(loop.seed_model(), loop.data.labeled_pairs.rows)


def seed_all(loop: EvolutionLoop) -> Arm:
    """Train on the pairs too that otherwise only compare loops.

    What the same labels give to who does not evolve. Its temperature is fitted on pairs
    that it was trained on.
    """
    model = loop.train(loop.data.labeled_pairs, loop.data.validation_pairs)
    return Arm(model, loop.data.labeled_pairs.rows + loop.data.validation_pairs.rows)


def seed_long(loop: EvolutionLoop) -> Arm:
    """Train on the human labels for as many optimiser steps as SER took in all."""
    taken = [int(model.metrics["steps"]) for model in loop.run().models.values()]
    epochs = loop.reward.epochs * sum(taken) / taken[0]
    return Arm(
        loop.train(loop.data.labeled_pairs, epochs=epochs), loop.data.labeled_pairs.rows
    )


def ser(loop: EvolutionLoop) -> Arm:
    """Self-evolve, and keep the loop that validation favours: the method."""
    return _kept(loop, loop.run())


def ssrm(loop: EvolutionLoop) -> Arm:
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
    return _unjudged(loop, loop.max_loops, rule)


def naive(loop: EvolutionLoop) -> Arm:
    """Label the whole pool once and train on all of it: plain self-training."""
    rule = {
        "status_rule": "quantile",
        "quantile": 1.0,
        "labels": "hard",
        "start": "sft",
    }
    return _unjudged(loop, 1, rule)


def random_labels(loop: EvolutionLoop) -> Arm:
    """Train on the labelled pairs with labels that a coin has drawn: the floor."""
    job = RandomLabelsJob(pairs=loop.data.labeled_pairs, seed=loop.seed)
    return Arm(loop.train(run(job, loop.launcher)["labeled"]), 0)


def full(loop: ControlLoop) -> Arm:
    """Train on every human label of the reward model's part."""
    model = loop.train(loop.data.labeled_pairs, loop.true_labels())
    return Arm(model, loop.data.labeled_pairs.rows + loop.data.unlabeled_pairs.rows)


def more_human(loop: ControlLoop) -> Arm:
    """Train on as many further human labels as SER gave labels itself."""
    given = _selected(loop.honest().run())
    if not given:
        return seed(loop)
    further = loop.true_labels(limit=given)
    model = loop.train(loop.data.labeled_pairs, further)
    return Arm(model, loop.data.labeled_pairs.rows + further.rows)


def oracle(loop: ControlLoop) -> Arm:
    """Learn from the pairs that SER selected, loop by loop, with their true labels."""
    state = loop.begin(loop.seed_model())
    for record in loop.honest().run().records[1:]:
        if state.stopped or not (
            record.scores and record.selection and record.remaining
        ):
            break
        job = OracleJob(selection=record.selection, audit=loop.audit_labels)
        told = run(job, loop.launcher)["selection"]
        state = loop.learn(state, record.scores, told, record.remaining)
    return _kept(loop, state, _selected(state))


def leaky(loop: ControlLoop) -> Arm:
    """Self-evolve, with the wrong self-labels removed by the truth."""

    def drop_wrong(selection: SelectionRef) -> SelectionRef:
        job = LeakyFilterJob(selection=selection, audit=loop.audit_labels)
        return run(job, loop.launcher)["selection"]

    state = loop.run(drop_wrong)
    return _kept(loop, state, _selected(state))


HONEST: dict[str, Callable[[EvolutionLoop], Arm]] = {
    "random_labels": random_labels,
    "seed": seed,
    "seed_all": seed_all,
    "seed_long": seed_long,
    "naive": naive,
    "ssrm": ssrm,
    "ser": ser,
}
CONTROLS: dict[str, Callable[[ControlLoop], Arm]] = {
    "oracle": oracle,
    "leaky": leaky,
    "more_human": more_human,
    "full": full,
}
ARMS = (*HONEST, *CONTROLS)


def run_arm(name: str, loop: ControlLoop) -> Arm:
    """Run an arm of ``ARMS``; an honest one is not shown the truth."""
    if name in HONEST:
        return HONEST[name](loop.honest())
    return CONTROLS[name](loop)


def _unjudged(loop: EvolutionLoop, loops: int, rule: dict[str, Any]) -> Arm:
    """Run loops that nothing stops early, and keep the last model."""
    endless = {"patience": loops + 1, "collapse_standard_errors": 1e9}
    params = loop.params.model_copy(update={**rule, **endless})
    state = replace(loop, params=params, max_loops=loops).run()
    return Arm(state.model, loop.data.labeled_pairs.rows, state)


def _selected(state: EvolutionState) -> int:
    return sum(record.selected for record in state.records)
