"""Accuracy with intervals that know that pairs of one prompt are not independent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap

from ser_kedro.statistics.params import StatisticsParams

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A mean with its confidence interval."""

    value: float
    low: float
    high: float

    @classmethod
    def read(cls, values: dict[str, float | None]) -> Estimate:
        """Return what JSON holds of an estimate, which has no word for NaN."""
        return cls(**{k: float("nan") if v is None else v for k, v in values.items()})

    @property
    def excludes_zero(self) -> bool:
        """The interval lies on one side of zero."""
        return self.low > 0 or self.high < 0

    def verdict(self) -> str:
        """Name a difference: ``a gain``, ``a loss`` or ``not significant``."""
        if not self.excludes_zero:
            return "not significant"
        return "a gain" if self.value > 0 else "a loss"

    def points(self) -> str:
        """Return a difference of shares in points, ends that are unknown as ``–``."""
        value, low, high = map(points, (self.value, self.low, self.high))
        return f"{value} points [{low}, {high}]"

    def percent(self) -> str:
        """Return a share in %, ends that are unknown as ``–``."""
        value, low, high = map(percent, (self.value, self.low, self.high))
        return f"{value} [{low}, {high}]"


def points(value: float) -> str:
    """Return a difference of shares in points; ``–`` where it is not known."""
    return f"{100 * value:+.1f}" if np.isfinite(value) else "–"


def percent(value: float) -> str:
    """Return a share in %; ``–`` where it is not known."""
    return f"{100 * value:.1f}" if np.isfinite(value) else "–"


def correct(chosen: Floats, rejected: Floats) -> Floats:
    """Return 1 for each pair ranked right, 0 for wrong, ½ for a tie; shape ``(n,)``."""
    return np.where(chosen == rejected, 0.5, (chosen > rejected).astype(np.float64))


def mean_by_group(
    values: Floats, groups: NDArray[np.str_], params: StatisticsParams
) -> Estimate:
    """Return the mean over pairs, with a bootstrap over groups.

    The percentile bootstrap resamples prompt groups, not pairs (Efron and Tibshirani,
    1993, for clustered data).

    Args:
        values: One figure a pair, shape ``(n,)``, ``n ≥ 1``.
        groups: Prompt group of each pair, shape ``(n,)``.
        params: Confidence and number of resamples.
    """
    _, index = np.unique(groups, return_inverse=True)
    sums = np.bincount(index, weights=values)
    sizes = np.bincount(index).astype(np.float64)
    mean = float(values.mean())
    if len(sums) < 2:
        return Estimate(mean, float("nan"), float("nan"))  # one prompt says nothing
    if np.ptp(values) == 0:
        return Estimate(mean, mean, mean)

    def ratio(total: Floats, size: Floats, axis: int = -1) -> Floats:
        return np.asarray(total.sum(axis=axis) / size.sum(axis=axis))

    interval = bootstrap(
        (sums, sizes),
        ratio,
        paired=True,
        vectorized=True,
        method="percentile",
        confidence_level=params.confidence,
        n_resamples=params.resamples,
        batch=100,
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Estimate(mean, float(interval.low), float(interval.high))
