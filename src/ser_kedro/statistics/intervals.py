"""Intervals of a mean over seeds and prompts, both of which are samples.

A figure is measured with several random seeds and on many prompts, with one or more
pairs a prompt. Two designs occur. *Crossed*: every seed is tested on the same pairs, so
that ``y = mean + seed + prompt + rest``. *Nested*: every seed has its own test set.

The variance of the mean is put together from the mean squares of seeds, prompts and
rest (two-way random effects; Searle, Casella and McCulloch, 1992), and its degrees of
freedom are Satterthwaite's (1946). A percentile bootstrap over prompts and seeds would
need neither, but with five seeds it covers too rarely, since five resampled seeds show
4/5 of their variance and a normal quantile in place of t's; and resampling both at
once counts the rest up to three times (Owen, 2007), so that paired differences are
covered too often. ``benchmarks/coverage.py`` prints all three side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag
from scipy.stats import t

from ser_kedro.statistics.estimate import Estimate

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Cells:
    """A figure's sums over the pairs of one prompt with one seed.

    Attributes:
        totals: Sum of the figure, shape ``(..., seeds, prompts)``.
        sizes: Number of pairs, shape ``(seeds, prompts)``; 0 where a seed was not
            tested on a prompt.
    """

    totals: Floats
    sizes: Floats

    @property
    def crossed(self) -> bool:
        """Every seed was tested on the same prompts with as many pairs."""
        return bool((self.sizes == self.sizes[:1]).all() and (self.sizes > 0).all())


def of_their_own(values: Sequence[Floats]) -> Cells:
    """Return the cells of seeds that share no prompt.

    Args:
        values: For each seed one figure a prompt, at least one seed.
    """
    sizes = block_diag(*(np.ones((1, len(seed))) for seed in values))
    totals = block_diag(*(seed[None] for seed in values))
    return Cells(totals, sizes)


@dataclass(frozen=True)
class Contrast:
    """A mean with what its interval needs; arrays of one shape.

    Attributes:
        value: The mean over all pairs.
        error: Its standard error; NaN where it cannot be known (one prompt).
        freedom: Degrees of freedom of the error.
    """

    value: Floats
    error: Floats
    freedom: Floats

    def bounds(self, confidence: float) -> tuple[Floats, Floats]:
        """Return the ends of the interval by Student's t."""
        half = t.ppf((1 + confidence) / 2, self.freedom) * self.error
        return self.value - half, self.value + half

    def estimate(self, confidence: float, least: float = -1) -> Estimate:
        """Return one mean with its interval; only where the arrays hold one.

        Args:
            confidence: Of the interval.
            least: What the figure cannot lie below: -1 for a difference in accuracy, 0
                for an accuracy. Above 1 lies neither.
        """
        low, high = (np.clip(end, least, 1) for end in self.bounds(confidence))
        return Estimate(float(self.value), float(low), float(high))

    @property
    def p_value(self) -> Floats:
        """Two-sided p of the hypothesis that the mean is zero; 1 for an exact zero."""
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(self.value == 0, 0.0, abs(self.value) / self.error)
        return np.asarray(2 * t.sf(ratio, self.freedom))


@dataclass(frozen=True)
class Components:
    """Variances of one cell's mean: by seed, by prompt, and the rest; never negative.

    Attributes:
        seed: Variance over seeds.
        prompt: Variance over prompts; 0 in a nested design, where it is in the rest.
        rest: What is left, of one prompt with one seed.
    """

    seed: float
    prompt: float
    rest: float

    @classmethod
    def of(cls, cells: Cells) -> Components:
        """Estimate them from a pilot of at least two seeds and two prompts."""
        seeds, prompts = cells.sizes.shape
        if cells.crossed:
            by_seed, by_prompt, rest = _mean_squares(_scaled(cells))
            return cls(
                float(max(0.0, by_seed - rest) / prompts),
                float(max(0.0, by_prompt - rest) / seeds),
                float(rest),
            )
        filled = cells.sizes > 0
        means = cells.totals[filled] / cells.sizes[filled]
        row = np.nonzero(filled)[0]
        counts = np.bincount(row, minlength=seeds)
        by_row = np.bincount(row, weights=means, minlength=seeds) / counts
        within = float(((means - by_row[row]) ** 2).sum() / (len(means) - seeds))
        seed = float(by_row.var(ddof=1) - within * np.mean(1 / counts))
        return cls(max(0.0, seed), 0.0, within)

    def contrast(self, seeds: int, prompts: int, *, crossed: bool) -> Contrast:
        """Return what a design would know of a mean of zero.

        Args:
            seeds: Seeds, at least 1.
            prompts: Prompts of each test set, at least 2.
            crossed: All seeds share their test set.
        """
        cells = seeds * prompts
        if not crossed or seeds < 2:
            variance = self.seed / seeds + (self.prompt + self.rest) / cells
            freedom = float(seeds - 1 if seeds > 1 else prompts - 1)
            return Contrast(np.zeros(()), np.sqrt(variance), np.asarray(freedom))
        squared, freedoms = _combined(
            np.asarray(self.rest + prompts * self.seed),
            np.asarray(self.rest + seeds * self.prompt),
            np.asarray(self.rest),
            seeds,
            prompts,
        )
        return Contrast(np.zeros(()), np.sqrt(squared), freedoms)


def infer(cells: Cells) -> Contrast:
    """Return the mean over all pairs with its standard error.

    Args:
        cells: At least one seed and one prompt.

    Returns:
        Arrays of the leading shape of ``cells.totals``. With one seed, the error is
        that of the prompts alone: one seed says nothing about others.
    """
    pairs = cells.sizes.sum()
    value = cells.totals.sum(axis=(-2, -1)) / pairs
    seeds, prompts = cells.sizes.shape
    if prompts < 2:
        unknown = np.full_like(value, np.nan)
        return Contrast(value, unknown, unknown)
    if seeds == 1:
        parts = _influence(cells, value).sum(axis=-2)
        variance = prompts / (prompts - 1) * (parts**2).sum(axis=-1)
        freedom = np.full_like(value, prompts - 1)
    elif cells.crossed:
        variance, freedom = _combined(*_mean_squares(_scaled(cells)), seeds, prompts)
    else:
        variance, freedom = _overlapping(_influence(cells, value), seeds, prompts)
    return Contrast(value, np.sqrt(variance), freedom)


def _influence(cells: Cells, value: Floats) -> Floats:
    centred = cells.totals - value[..., None, None] * cells.sizes
    return np.asarray(centred / cells.sizes.sum())


def _scaled(cells: Cells) -> Floats:
    """Return cells whose plain mean is 0, and whose errors are those of the mean."""
    value = cells.totals.sum(axis=(-2, -1)) / cells.sizes.sum()
    return _influence(cells, np.asarray(value)) * cells.sizes.size


def _mean_squares(values: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the mean squares of seeds, prompts and rest; ``values`` has mean 0."""
    seeds, prompts = values.shape[-2:]
    rows, columns = values.mean(axis=-1), values.mean(axis=-2)
    by_seed = prompts * (rows**2).sum(axis=-1) / (seeds - 1)
    by_prompt = seeds * (columns**2).sum(axis=-1) / (prompts - 1)
    rest = values - rows[..., :, None] - columns[..., None, :]
    freedom = (seeds - 1) * (prompts - 1)
    return by_seed, by_prompt, (rest**2).sum(axis=(-2, -1)) / freedom


def _combined(
    by_seed: Floats, by_prompt: Floats, rest: Floats, seeds: int, prompts: int
) -> tuple[Floats, Floats]:
    # A component that comes out negative is zero, and then it has no uncertainty.
    with_seeds, with_prompts = by_seed > rest, by_prompt > rest
    total = np.maximum(by_seed, rest) + np.maximum(by_prompt, rest) - rest
    uncertainty = (
        np.where(with_seeds, by_seed**2 / (seeds - 1), 0)
        + np.where(with_prompts, by_prompt**2 / (prompts - 1), 0)
        + rest**2 / ((seeds - 1) * (prompts - 1))
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = np.where(uncertainty > 0, total**2 / uncertainty, prompts - 1)
    return total / (seeds * prompts), np.maximum(freedom, seeds - 1)


def _overlapping(parts: Floats, seeds: int, prompts: int) -> tuple[Floats, Floats]:
    """Return variance and freedom where test sets differ, wholly or in part.

    Seeds are clusters; prompts that several seeds share add what they have in common
    (two-way clusters; Cameron, Gelbach and Miller, 2011).
    """
    by_seed = seeds / (seeds - 1) * (parts.sum(axis=-1) ** 2).sum(axis=-1)
    by_prompt = (parts.sum(axis=-2) ** 2).sum(axis=-1)
    shared = by_prompt - (parts**2).sum(axis=(-2, -1))
    shared = np.where(shared < 1e-9 * by_seed, 0, shared)  # rounding is no prompt
    variance = by_seed + shared
    uncertainty = by_seed**2 / (seeds - 1) + shared**2 / (prompts - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = np.where(uncertainty > 0, variance**2 / uncertainty, seeds - 1)
    return variance, freedom
