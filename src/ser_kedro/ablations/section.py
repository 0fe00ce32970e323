"""What was found on one data set in one phase."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ser_kedro.ablations.compare import (
    BASELINE,
    CEILING,
    Comparison,
    accuracy_of,
    compare,
)
from ser_kedro.ablations.efficiency import EVOLVED, Saving, mean_gain, savings
from ser_kedro.ablations.outcome_job import EFFICIENCY
from ser_kedro.ablations.outcomes import Key, Outcomes
from ser_kedro.errors import DataError
from ser_kedro.evaluation.breakdown import equal_bins
from ser_kedro.evaluation.params import EvaluationParams
from ser_kedro.evaluation.reliability import calibration_error
from ser_kedro.statistics.estimate import Estimate
from ser_kedro.statistics.intervals import infer

# What any sound measurement shows; where it does not, the page says so.
EXPECTED = (("random_labels", BASELINE), (BASELINE, CEILING), (EVOLVED, "leaky"))
_RULE, _ALL = "longer answer", "seed_all"
_THIRDS = ("hardest", "middle", "easiest")


@dataclass(frozen=True)
class Details:
    """What was found of the methods at one share.

    Attributes:
        expected: Pairs of methods that should differ, with the measured difference.
        parts: Accuracy of each method by source, length and difficulty, by name of the
            part.
        calibration: Calibration error of each method before and after its temperature.
        longer: Accuracy of always preferring the longer answer.
        beside_longer: That of a method less that of this rule, by name of the method.
        beside_all: That of evolution less that of the same labels, all trained on.
    """

    expected: list[tuple[str, str, float, Estimate]]
    parts: dict[str, dict[Key, Estimate]]
    calibration: dict[Key, tuple[float, float]]
    longer: Estimate
    beside_longer: dict[str, Estimate]
    beside_all: Estimate | None


@dataclass(frozen=True)
class Curve:
    """What was found at several shares.

    Attributes:
        points: Accuracy of ``seed`` and ``ser`` by share.
        savings: What evolution saves in labels.
        mean_gain: Of evolution on the seed model, over all shares.
    """

    points: dict[str, list[tuple[float, Estimate]]]
    savings: list[Saving]
    mean_gain: Estimate


@dataclass(frozen=True)
class Section:
    """One data set in one study of one phase.

    Attributes:
        data: Its name.
        phase: One of ``PHASES``.
        study: One of ``STUDIES``.
        seeds: Seeds of the baseline.
        comparisons: Every method at every share.
        left_out: Prompts that development had too, by chance.
        findings: Of the methods, or of the study ``efficiency`` the curve.
    """

    data: str
    phase: str
    study: str
    seeds: list[int]
    comparisons: list[Comparison]
    left_out: int
    findings: Details | Curve


def section(
    outcomes: Outcomes,
    phase: str,
    study: str,
    params: EvaluationParams,
    left_out: int = 0,
) -> Section:
    """Return all that was found on one data set by one study of one phase.

    Raises:
        DataError: If the seed model was not measured.
    """
    if not (known := outcomes.shares(BASELINE)):
        raise DataError(
            f"{phase}: {outcomes.data} has no {BASELINE} run, the baseline of every"
            " comparison"
        )
    find = _curve if study == EFFICIENCY else _details
    return Section(
        data=outcomes.data,
        phase=phase,
        study=study,
        seeds=outcomes.seeds((BASELINE, known[0])),
        comparisons=compare(outcomes, params),
        left_out=left_out,
        findings=find(outcomes, params),
    )


def _curve(outcomes: Outcomes, params: EvaluationParams) -> Curve:
    points = {
        method: [
            (share, accuracy_of(outcomes, (method, share), params))
            for share in outcomes.shares(method)
        ]
        for method in (BASELINE, EVOLVED)
    }
    return Curve(points, savings(outcomes, params), mean_gain(outcomes, params))


def _details(outcomes: Outcomes, params: EvaluationParams) -> Details:
    longer, beside = _longer(outcomes, params)
    return Details(
        expected=_expected(outcomes, params),
        parts=_parts(outcomes, params),
        calibration=_calibration(outcomes, params),
        longer=longer,
        beside_longer=beside,
        beside_all=_beside_all(outcomes, params),
    )


def _beside_all(outcomes: Outcomes, params: EvaluationParams) -> Estimate | None:
    found = (
        _less(outcomes, (EVOLVED, share), (_ALL, share), params)
        for share in outcomes.shares(EVOLVED)
    )
    return next((one for one in found if one), None)


def _expected(
    outcomes: Outcomes, params: EvaluationParams
) -> list[tuple[str, str, float, Estimate]]:
    return [
        (low, high, share, difference)
        for low, high in EXPECTED
        for share in outcomes.shares(high)
        if (difference := _less(outcomes, (high, share), (low, share), params))
    ]


def _less(
    outcomes: Outcomes, one: Key, other: Key, params: EvaluationParams
) -> Estimate | None:
    """Return ``one`` less ``other``, paired; ``None`` where they share no seed."""
    if not {one, other} <= set(outcomes.keys) or not outcomes.seeds(one, other):
        return None
    contrast = infer(outcomes.cells({one: 1, other: -1}))
    return contrast.estimate(params.confidence)


def _parts(
    outcomes: Outcomes, params: EvaluationParams
) -> dict[str, dict[Key, Estimate]]:
    """Return accuracies by source, by length, and by thirds of the full's margin."""
    named = outcomes.frame["source"].to_numpy()
    masks: dict[str, Any] = {}
    if len(sources := sorted(set(named))) > 1:
        masks |= {f"source {source}": named == source for source in sources}
    masks["shorter preferred"] = outcomes.frame["excess_length"].to_numpy() < 0
    masks |= _difficulty(outcomes)
    found: dict[str, dict[Key, Estimate]] = {}
    for name, mask in masks.items():
        if not mask.any():
            continue
        part = outcomes.where(mask)
        found[name] = {key: accuracy_of(part, key, params) for key in part.keys}
    return found


def _longer(
    outcomes: Outcomes, params: EvaluationParams
) -> tuple[Estimate, dict[str, Estimate]]:
    """Return the accuracy of a rule that needs no model, and methods less the rule."""
    frame, share = outcomes.frame, outcomes.shares(BASELINE)[0]
    rows = frame[(frame["method"] == BASELINE) & (frame["share"] == share)]
    rule = rows.assign(
        method=_RULE, chosen_reward=rows["excess_length"], rejected_reward=0
    )
    both = Outcomes.of(pd.concat([frame, rule]), outcomes.data)
    beside = {
        method: difference
        for method in (EVOLVED, CEILING)
        if (difference := _less(both, (method, share), (_RULE, share), params))
    }
    return accuracy_of(both, (_RULE, share), params), beside


def _calibration(
    outcomes: Outcomes, params: EvaluationParams
) -> dict[Key, tuple[float, float]]:
    found: dict[Key, list[tuple[float, float]]] = {}
    for (method, share, _), rows in outcomes.frame.groupby(["method", "share", "seed"]):
        margins = (rows["chosen_reward"] - rows["rejected_reward"]).to_numpy(np.float64)
        errors = (
            calibration_error(margins, params.bins),
            calibration_error(margins / rows["temperature"].to_numpy(), params.bins),
        )
        found.setdefault((method, share), []).append(errors)
    means = {key: np.mean(errors, axis=0) for key, errors in found.items()}
    return {key: (float(mean[0]), float(mean[1])) for key, mean in means.items()}


def _difficulty(outcomes: Outcomes) -> dict[str, Any]:
    """Return masks of the thirds of each seed's pairs, by the full model's margin."""
    frame = outcomes.frame
    full = frame[frame["method"] == CEILING]
    if full.empty:
        return {}
    ease = (full["chosen_reward"] - full["rejected_reward"]).abs()
    by_pair = ease.groupby([full["seed"], full["pair_id"]]).mean()
    thirds = by_pair.groupby(level="seed").transform(
        lambda values: equal_bins(values.to_numpy(), len(_THIRDS))
    )
    place = thirds.rename("third")
    of_row = frame.join(place, on=["seed", "pair_id"])["third"].to_numpy()
    return {f"{name} third": of_row == number for number, name in enumerate(_THIRDS)}
