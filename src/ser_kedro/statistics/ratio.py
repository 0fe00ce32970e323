"""The ratio of two means with its interval."""

from __future__ import annotations

from collections.abc import Callable

from scipy.optimize import brentq

from ser_kedro.statistics.estimate import Estimate
from ser_kedro.statistics.intervals import Cells, infer

# A ratio beyond this is as good as unbounded.
_FARTHEST = 1e3


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
    if unresolved(start) <= 0:
        return start  # no error at all, such as a method that is the ceiling
    inside, step = start, 0.01
    while unresolved(outside := start + sign * step) > 0:
        inside, step = outside, 2 * step
        if step > _FARTHEST:
            return sign * float("inf")
    return float(brentq(unresolved, inside, outside, xtol=1e-8))
