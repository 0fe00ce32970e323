"""Every arm against the seed model: differences, gap closed, and what is resolved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ser_kedro.ablations.outcomes import Key, Outcomes
from ser_kedro.evaluation.params import EvaluationParams
from ser_kedro.statistics.estimate import Estimate
from ser_kedro.statistics.intervals import Cells, infer
from ser_kedro.statistics.power import smallest_difference

BASELINE, CEILING = "seed", "full"
# Below so many standard errors the gap itself is in doubt, and a share of it is noise.
GAP_STANDARD_ERRORS = 3.0
# A share of a gap beyond this is as good as unbounded.
_FARTHEST = 1e3

Verdict = Literal["gain", "loss", "not resolved"]


@dataclass(frozen=True)
class Comparison:
    """One arm at one share, beside the seed model of the same draws.

    Attributes:
        arm: Its name.
        share: Share of the reward model's pairs that kept their label.
        draws: Seeds that both were measured on.
        accuracy: Of the arm, in [0, 1].
        difference: Accuracy minus the seed model's, paired; ``None`` for itself.
        p: Two-sided p of no difference.
        holm: The same after Holm's correction over the data set's comparisons.
        verdict: ``gain`` and ``loss`` only where ``holm`` resolves them.
        smallest: The difference that would have been found with the asked power;
            ``None`` where the arm answers as the seed model does.
        gap_closed: Share of the gap from ``seed`` to ``full``; ``None`` where that gap
            is not itself above three standard errors.
    """

    arm: str
    share: float
    draws: int
    accuracy: Estimate
    difference: Estimate | None = None
    p: float | None = None
    holm: float | None = None
    verdict: Verdict | None = None
    smallest: float | None = None
    gap_closed: Estimate | None = None

    @property
    def same(self) -> bool:
        """The arm answers as the seed model does, such as where it was kept."""
        return self.difference == Estimate(0, 0, 0)


def compare(outcomes: Outcomes, params: EvaluationParams) -> list[Comparison]:
    """Compare every arm with the seed model of its share.

    Args:
        outcomes: Arms of one data set; the family that Holm's correction spans.
        params: Confidence and power.

    Returns:
        One comparison an arm and share, by share and then by accuracy.
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


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number (Holm, 1979); NaN stays NaN."""
    values = np.asarray(p_values, np.float64)
    order = np.argsort(values)
    factors = len(values) - np.arange(len(values))
    stepped = np.maximum.accumulate(np.minimum(1.0, factors * values[order]))
    corrected = np.empty_like(values)
    corrected[order] = stepped
    return [float(value) for value in corrected]


def gap_closed(
    outcomes: Outcomes, arm: Key, params: EvaluationParams
) -> Estimate | None:
    """Return the share of the gap from seed to full labels that an arm has closed.

    The interval is Fieller's (1954): every share ``ρ`` for which
    ``(arm - seed) - ρ (full - seed)`` is not told from zero. Both ends exist, since the
    gap exceeds three standard errors.

    Args:
        outcomes: With ``seed`` and ``full`` at the arm's share.
        arm: Name and share.
        params: Confidence.

    Returns:
        The share, 0 for the seed model and 1 for full labels; ``None`` where there is
        no such gap, or where it is in doubt.
    """
    baseline, ceiling = (BASELINE, arm[1]), (CEILING, arm[1])
    if {baseline, ceiling} - set(outcomes.keys):
        return None
    if not outcomes.draws(arm, baseline, ceiling):
        return None
    # Zero weights, so that all three are read on the same draws.
    difference = outcomes.cells({arm: 1, baseline: -1} | _none(ceiling, arm))
    gap = outcomes.cells({ceiling: 1, baseline: -1} | _none(arm, ceiling))
    whole = infer(gap)
    if not whole.value > GAP_STANDARD_ERRORS * whole.error:
        return None
    return fieller(difference, gap, params.confidence)


def fieller(part: Cells, whole: Cells, confidence: float) -> Estimate:
    """Return the ratio of two means with Fieller's interval.

    Args:
        part: Of the numerator.
        whole: Of the denominator, on the same pairs; well away from zero.
        confidence: Of the interval.

    Returns:
        The ratio; an end is infinite where no ratio on that side can be excluded.
    """
    ratio = float(infer(part).value / infer(whole).value)

    def unresolved(rho: float) -> float:
        contrast = infer(Cells(part.totals - rho * whole.totals, part.sizes))
        low, high = contrast.bounds(confidence)
        half = float(high - low) / 2
        return half - abs(float(contrast.value))

    low, high = (_edge(unresolved, ratio, sign) for sign in (-1, 1))
    return Estimate(ratio, low, high)


def _edge(unresolved: Callable[[float], float], start: float, sign: int) -> float:
    """Return where ``unresolved`` turns negative, going from ``start``."""
    from scipy.optimize import brentq

    if unresolved(start) <= 0:
        return start  # no error at all, such as an arm that is the ceiling
    inside, step = start, 0.01
    while unresolved(outside := start + sign * step) > 0:
        inside, step = outside, 2 * step
        if step > _FARTHEST:
            return sign * float("inf")
    return float(brentq(unresolved, inside, outside, xtol=1e-8))


def _none(key: Key, but: Key) -> dict[Key, float]:
    return {} if key == but else {key: 0.0}


def accuracy_of(outcomes: Outcomes, key: Key, params: EvaluationParams) -> Estimate:
    """Return an arm's accuracy with its interval, in [0, 1]."""
    return infer(outcomes.cells({key: 1})).estimate(params.confidence, least=0)


def _compare_one(outcomes: Outcomes, key: Key, params: EvaluationParams) -> Comparison:
    arm, share = key
    row = Comparison(
        arm, share, len(outcomes.draws(key)), accuracy_of(outcomes, key, params)
    )
    baseline = (BASELINE, share)
    if arm == BASELINE or baseline not in outcomes.keys:
        return row
    if not outcomes.draws(key, baseline):
        return row
    contrast = infer(outcomes.cells({key: 1, baseline: -1}))
    p = float(contrast.p_value)
    return replace(
        row,
        draws=len(outcomes.draws(key, baseline)),
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
        return "not resolved"
    return "gain" if row.difference.value > 0 else "loss"


def _key(row: Comparison) -> Key:
    return row.arm, row.share
