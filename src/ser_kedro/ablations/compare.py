"""Every method against the seed model: differences, gap closed, significance."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ser_kedro.ablations.outcomes import Key, Outcomes
from ser_kedro.evaluation.params import EvaluationParams
from ser_kedro.statistics.corrections import holm
from ser_kedro.statistics.estimate import Estimate
from ser_kedro.statistics.intervals import infer
from ser_kedro.statistics.power import smallest_difference
from ser_kedro.statistics.ratio import fieller

BASELINE, CEILING = "seed", "full"
# Below so many standard errors the gap itself is in doubt, and a share of it is noise.
GAP_STANDARD_ERRORS = 3.0

Verdict = Literal["gain", "loss", "not significant"]


@dataclass(frozen=True)
class Comparison:
    """One method at one share, beside the seed model of the same seeds.

    Attributes:
        method: Its name.
        share: Share of the reward model's pairs that kept their label.
        seeds: Seeds that both were measured on.
        accuracy: Of the method, in [0, 1].
        difference: Accuracy minus the seed model's, paired; ``None`` for itself.
        p: Two-sided p of no difference.
        holm: The same after Holm's correction over the data set's comparisons.
        verdict: ``gain`` and ``loss`` only where ``holm`` is significant.
        smallest: The difference that would have been found with the asked power;
            ``None`` where the predictions are those of the seed model.
        gap_closed: Share of the gap from ``seed`` to ``full``; ``None`` where that gap
            is not itself above three standard errors.
    """

    method: str
    share: float
    seeds: int
    accuracy: Estimate
    difference: Estimate | None = None
    p: float | None = None
    holm: float | None = None
    verdict: Verdict | None = None
    smallest: float | None = None
    gap_closed: Estimate | None = None

    @property
    def same(self) -> bool:
        """It makes the predictions of the seed model, such as where that was kept."""
        return self.difference == Estimate(0, 0, 0)


def compare(outcomes: Outcomes, params: EvaluationParams) -> list[Comparison]:
    """Compare every method with the seed model of its share.

    Args:
        outcomes: Methods of one data set; the family that Holm's correction spans.
        params: Confidence and power.

    Returns:
        One comparison a method and share, by share and then by accuracy.
    """
    found = [_compare_one(outcomes, key, params) for key in outcomes.keys]
    tested = [row for row in found if row.p is not None]
    corrected = holm([row.p for row in tested if row.p is not None])
    family = dict(zip(map(_key, tested), corrected, strict=True))
    alpha = 1 - params.confidence
    judged = [
        replace(
            row,
            holm=family[_key(row)],
            verdict=_verdict(row, family[_key(row)], alpha),
            smallest=_smallest(outcomes, row, params, len(family)),
        )
        if _key(row) in family
        else row
        for row in found
    ]
    return sorted(judged, key=lambda row: (row.share, row.accuracy.value))


def gap_closed(
    outcomes: Outcomes, method: Key, params: EvaluationParams
) -> Estimate | None:
    """Return the share of the gap from seed to full labels that a method has closed.

    The interval is Fieller's (1954): every share ``ρ`` for which
    ``(method - seed) - ρ (full - seed)`` does not differ significantly from zero. Both
    ends exist, since the gap exceeds three standard errors.

    Args:
        outcomes: With ``seed`` and ``full`` at the method's share.
        method: Name and share.
        params: Confidence.

    Returns:
        The share, 0 for the seed model and 1 for full labels; ``None`` where there is
        no such gap, or where it is in doubt.
    """
    baseline, ceiling = (BASELINE, method[1]), (CEILING, method[1])
    if {baseline, ceiling} - set(outcomes.keys):
        return None
    if not outcomes.seeds(method, baseline, ceiling):
        return None
    # Zero weights, so that all three are read on the same seeds.
    difference = outcomes.cells({method: 1, baseline: -1} | _none(ceiling, method))
    gap = outcomes.cells({ceiling: 1, baseline: -1} | _none(method, ceiling))
    whole = infer(gap)
    if not whole.value > GAP_STANDARD_ERRORS * whole.error:
        return None
    return fieller(difference, gap, params.confidence)


def _none(key: Key, but: Key) -> dict[Key, float]:
    return {} if key == but else {key: 0.0}


def accuracy_of(outcomes: Outcomes, key: Key, params: EvaluationParams) -> Estimate:
    """Return a method's accuracy with its interval, in [0, 1]."""
    return infer(outcomes.cells({key: 1})).estimate(params.confidence, least=0)


def _compare_one(outcomes: Outcomes, key: Key, params: EvaluationParams) -> Comparison:
    method, share = key
    row = Comparison(
        method, share, len(outcomes.seeds(key)), accuracy_of(outcomes, key, params)
    )
    baseline = (BASELINE, share)
    if method == BASELINE or baseline not in outcomes.keys:
        return row
    if not outcomes.seeds(key, baseline):
        return row
    contrast = infer(outcomes.cells({key: 1, baseline: -1}))
    p = float(contrast.p_value)
    return replace(
        row,
        seeds=len(outcomes.seeds(key, baseline)),
        difference=contrast.estimate(params.confidence),
        p=1.0 if np.isnan(p) else p,  # one prompt shows nothing
        gap_closed=gap_closed(outcomes, key, params),
    )


def _smallest(
    outcomes: Outcomes, row: Comparison, params: EvaluationParams, family: int
) -> float | None:
    if row.same:
        return None
    cells = outcomes.cells({_key(row): 1, (BASELINE, row.share): -1})
    return smallest_difference(infer(cells), params, family)


def _verdict(row: Comparison, p: float, alpha: float) -> Verdict:
    if row.difference is None or p >= alpha:
        return "not significant"
    return "gain" if row.difference.value > 0 else "loss"


def _key(row: Comparison) -> Key:
    return row.method, row.share
