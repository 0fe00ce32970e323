"""Methods that are compared: other uses of the same few labels and the same pool.

All methods share the split, the human labels and the SFT model of a seed, and are made
of the same jobs as the loop, so what two of them have in common is computed once. An
honest method is given an ``EvolutionLoop``, from which the truth about the pool cannot
be read; a control is given a ``ControlLoop``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ser_kedro.ablations.control_loop import ControlLoop
from ser_kedro.ablations.oracle_labels import (
    LeakyFilterJob,
    OracleJob,
    RandomLabelsJob,
    TrueLabelsJob,
)
from ser_kedro.acquisition.params import AcquisitionParams
from ser_kedro.acquisition.requests import label_requests
from ser_kedro.launch.executor import run
from ser_kedro.models.calibration import Calibration
from ser_kedro.models.scoring import score_pairs
from ser_kedro.self_evolution.loop import EvolutionLoop
from ser_kedro.self_evolution.selection import SelectJob
from ser_kedro.self_evolution.state import EvolutionState
from ser_kedro.self_evolution.voters import voters_of, without_voters
from ser_kedro.store.references import ModelRef, SelectionRef, TableRef
from ser_kedro.training.average_job import AverageJob

# Models of ``seed_ensemble``.
ENSEMBLE = 5
WHOLE_POOL = {"status_rule": "quantile", "quantile": 1.0, "labels": "soft"}


@dataclass(frozen=True)
class MethodResult:
    """What a method came to.

    Attributes:
        model: The model that it ends with.
        labels: Human labels that it trained on.
        state: How its loops went, where it has any.
    """

    model: ModelRef
    labels: int
    state: EvolutionState | None = None


def _kept(loop: EvolutionLoop, state: EvolutionState, oracle: int = 0) -> MethodResult:
    """Return the model that evolution ends with; ``oracle`` labels were looked up."""
    labels = loop.data.labeled_pairs.rows + oracle
    if loop.params.refit:
        labels += loop.data.validation_pairs.rows
    state = loop.finish(state)
    return MethodResult(state.best, labels, state)


def seed(loop: EvolutionLoop) -> MethodResult:
    """Loop 0: the human labels alone."""
    return MethodResult(loop.seed_model(), loop.data.labeled_pairs.rows)


def seed_all(loop: EvolutionLoop) -> MethodResult:
    """Train on the pairs too that otherwise only compare loops.

    The same labels without self-evolution. Its temperature is fitted on pairs that it
    was trained on.
    """
    model = loop.train(loop.data.labeled_pairs, loop.data.validation_pairs)
    return MethodResult(model, _labels(loop))


def seed_ensemble(loop: EvolutionLoop) -> MethodResult:
    """Train several models on all human labels and take the mean of their weights.

    The control of averaging, without the pool (Ramé et al., 2024, arXiv 2401.12187).
    For models that are trained whole: linear heads of several seeds hardly differ.
    """
    human = (loop.data.labeled_pairs, loop.data.validation_pairs)
    first = loop.train(*human, voters=ENSEMBLE)
    job = AverageJob(
        models=voters_of(first),
        validation=loop.unseen,
        params=without_voters(loop.reward),
    )
    return MethodResult(run(job, loop.launcher)["model"], _labels(loop))


def seed_long(loop: EvolutionLoop) -> MethodResult:
    """Train on the human labels for as many optimiser steps as SER took in all."""
    taken = [int(model.metrics["steps"]) for model in loop.run().models.values()]
    epochs = loop.reward.epochs * sum(taken) / taken[0]
    return MethodResult(
        loop.train(loop.data.labeled_pairs, epochs=epochs), loop.data.labeled_pairs.rows
    )


def ser(loop: EvolutionLoop) -> MethodResult:
    """Self-evolve, and keep the loop that validation favours: the method."""
    return _kept(loop, loop.run())


def committee(loop: EvolutionLoop) -> MethodResult:
    """Fit a committee of views on all human labels: what averaging views is worth."""
    return _committee(loop, co_training="never")


def co_trained(loop: EvolutionLoop) -> MethodResult:
    """Let the committee's members teach each other on the pool, whatever it helps."""
    return _committee(loop, co_training="always")


def chosen_committee(loop: EvolutionLoop) -> MethodResult:
    """Keep the co-trained committee where it is better out of fold, else the other."""
    return _committee(loop, co_training="auto")


def student(loop: EvolutionLoop) -> MethodResult:
    """Train a reward model on all human labels and the committee's soft ones."""
    human = (loop.data.labeled_pairs, loop.data.validation_pairs)
    teacher = loop.committee(loop.data.validation_pairs)
    scores = score_pairs(
        teacher, loop.data.unlabeled_pairs, loop.reward.scoring, loop.launcher
    )
    job = SelectJob(
        scores=scores,
        pairs=loop.data.unlabeled_pairs,
        loop=1,
        calibration=Calibration.of(teacher),
        params=loop.params.selection.model_copy(update=WHOLE_POOL),
    )
    model = loop.train(run(job, loop.launcher)["selection"], *human)
    return MethodResult(model, _labels(loop))


def _committee(loop: EvolutionLoop, **changes: Any) -> MethodResult:
    model = loop.committee(loop.data.validation_pairs, **changes)
    return MethodResult(model, _labels(loop))


def _labels(loop: EvolutionLoop) -> int:
    return loop.data.labeled_pairs.rows + loop.data.validation_pairs.rows


def ssrm(loop: EvolutionLoop) -> MethodResult:
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


def naive(loop: EvolutionLoop) -> MethodResult:
    """Label the whole pool once and train on all of it: plain self-training."""
    rule = {
        "status_rule": "quantile",
        "quantile": 1.0,
        "labels": "hard",
        "start": "sft",
    }
    return _unjudged(loop, 1, rule)


def random_labels(loop: EvolutionLoop) -> MethodResult:
    """Train on the labelled pairs with random labels: the floor."""
    job = RandomLabelsJob(pairs=loop.data.labeled_pairs, seed=loop.seed)
    return MethodResult(loop.train(run(job, loop.launcher)["labeled"]), 0)


def full(loop: ControlLoop) -> MethodResult:
    """Train on every human label of the reward model's part."""
    model = loop.train(loop.data.labeled_pairs, loop.true_labels())
    return MethodResult(
        model, loop.data.labeled_pairs.rows + loop.data.unlabeled_pairs.rows
    )


def full_committee(loop: ControlLoop) -> MethodResult:
    """Fit the committee on every human label: the ceiling of what its pool can give."""
    held_out, pool = loop.data.validation_pairs, loop.true_labels()
    model = loop.committee(held_out, pool, co_training="never")
    return MethodResult(model, _labels(loop) + loop.data.unlabeled_pairs.rows)


def active(loop: ControlLoop) -> MethodResult:
    """Ask for as many labels again, of the pairs that the committee is unsure of."""
    return _asked(loop, by="margin")


def active_spread(loop: ControlLoop) -> MethodResult:
    """Ask for as many labels again, of unsure pairs whose texts differ."""
    return _asked(loop, by="margin", spread="k_center")


def at_random(loop: ControlLoop) -> MethodResult:
    """Ask for as many labels again, of pairs that are drawn at random."""
    return _asked(loop, by="random")


def active_committee(loop: ControlLoop) -> MethodResult:
    """Fit the committee on its own labels and those that it asked for, and the pool."""
    new = _answers(loop, by="margin")
    model = loop.committee(loop.data.validation_pairs, new)
    return MethodResult(model, _labels(loop) + new.rows)


def _asked(loop: ControlLoop, **how: Any) -> MethodResult:
    human = (loop.data.labeled_pairs, loop.data.validation_pairs)
    new = _answers(loop, **how)
    return MethodResult(loop.train(*human, new), _labels(loop) + new.rows)


def _answers(loop: ControlLoop, **how: Any) -> TableRef:
    """Return true labels of as many pairs of the pool again, that a committee asks."""
    asker = loop.committee(loop.data.validation_pairs, co_training="never")
    asked = label_requests(
        loop.data.unlabeled_pairs,
        asker,
        AcquisitionParams(count=_labels(loop), random_share=0.0, **how),
        loop.reward.scoring,
        loop.seed,
        loop.launcher,
        labelled=(loop.data.labeled_pairs, loop.data.validation_pairs),
    )
    answered = TrueLabelsJob(pairs=asked, audit=loop.audit_labels)
    return run(answered, loop.launcher)["labeled"]


def more_human(loop: ControlLoop) -> MethodResult:
    """Train on as many additional human labels as SER gave labels itself."""
    given = _selected(loop.honest().run())
    if not given:
        return seed(loop)
    additional = loop.true_labels(limit=given)
    model = loop.train(loop.data.labeled_pairs, additional)
    return MethodResult(model, loop.data.labeled_pairs.rows + additional.rows)


def oracle(loop: ControlLoop) -> MethodResult:
    """Learn from the pairs that SER selected, loop by loop, with their true labels."""
    state = loop.begin(loop.seed_model())
    for record in loop.honest().run().records[1:]:
        if state.stopped or not (
            record.scores and record.selection and record.remaining
        ):
            break
        job = OracleJob(selection=record.selection, audit=loop.audit_labels)
        corrected = run(job, loop.launcher)["selection"]
        state = loop.learn(state, record.scores, corrected, record.remaining)
    return _kept(loop, state, _selected(state))


def leaky(loop: ControlLoop) -> MethodResult:
    """Self-evolve, with the wrong self-labels removed by the truth."""

    def drop_wrong(selection: SelectionRef) -> SelectionRef:
        job = LeakyFilterJob(selection=selection, audit=loop.audit_labels)
        return run(job, loop.launcher)["selection"]

    state = loop.run(drop_wrong)
    return _kept(loop, state, _selected(state))


HONEST: dict[str, Callable[[EvolutionLoop], MethodResult]] = {
    "random_labels": random_labels,
    "seed": seed,
    "seed_all": seed_all,
    "seed_long": seed_long,
    "seed_ensemble": seed_ensemble,
    "naive": naive,
    "ssrm": ssrm,
    "ser": ser,
    "committee": committee,
    "co_trained": co_trained,
    "chosen_committee": chosen_committee,
    "student": student,
}
CONTROLS: dict[str, Callable[[ControlLoop], MethodResult]] = {
    "oracle": oracle,
    "leaky": leaky,
    "more_human": more_human,
    "full": full,
    "full_committee": full_committee,
    "active": active,
    "active_spread": active_spread,
    "active_committee": active_committee,
    "at_random": at_random,
}
METHODS = (*HONEST, *CONTROLS)


def run_method(name: str, loop: ControlLoop) -> MethodResult:
    """Run a method of ``METHODS``; an honest one cannot see the truth."""
    if name in HONEST:
        return HONEST[name](loop.honest())
    return CONTROLS[name](loop)


def _unjudged(loop: EvolutionLoop, loops: int, rule: dict[str, Any]) -> MethodResult:
    """Run loops that nothing stops early, and keep the last model."""
    endless = {"patience": loops + 1, "collapse_standard_errors": 1e9}
    params = loop.params.model_copy(update={**rule, **endless})
    state = replace(loop, params=params, max_loops=loops).run()
    return MethodResult(state.model, loop.data.labeled_pairs.rows, state)


def _selected(state: EvolutionState) -> int:
    return sum(record.selected for record in state.records)
