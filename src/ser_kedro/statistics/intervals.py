"""Intervals of a mean over draws and prompts, both of which are samples.

A figure is measured on several draws (seeds) and on many prompts, with one or more
pairs a prompt. Two designs occur. *Crossed*: every draw is tested on the same pairs, so
that ``y = mean + draw + prompt + rest``. *Nested*: every draw has its own test set.

The variance of the mean is put together from the mean squares of draws, prompts and
rest (two-way random effects; Searle, Casella and McCulloch, 1992), and its degrees of
freedom are Satterthwaite's (1946). A percentile bootstrap over prompts and draws would
need neither, but with five draws it covers too rarely, since five resampled draws show
4/5 of their variance and a normal quantile in the place of t's; and resampling both at
once counts the rest up to three times (Owen, 2007), so that paired differences are
covered too often. ``scripts/coverage.py`` prints all three side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ser_kedro.statistics.estimate import Estimate

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Cells:
    """A figure's sums over the pairs of one prompt in one draw.

    Attributes:
        totals: Sum of the figure, shape ``(..., draws, prompts)``.
        sizes: Number of pairs, shape ``(draws, prompts)``; 0 where a draw was not
            tested on a prompt.
    """

    totals: Floats
    sizes: Floats

    @property
    def crossed(self) -> bool:
        """Every draw was tested on the same prompts with as many pairs."""
        return bool((self.sizes == self.sizes[:1]).all() and (self.sizes > 0).all())


def of_their_own(values: Sequence[Floats]) -> Cells:
    """Return the cells of draws that share no prompt.

    Args:
        values: For each draw one figure a prompt, at least one draw.
    """
    from scipy.linalg import block_diag

    sizes = block_diag(*(np.ones((1, len(draw))) for draw in values))
    totals = block_diag(*(draw[None] for draw in values))
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
        from scipy.stats import t

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
        from scipy.stats import t

        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(self.value == 0, 0.0, abs(self.value) / self.error)
        return np.asarray(2 * t.sf(ratio, self.freedom))


@dataclass(frozen=True)
class Components:
    """Variances of one cell's mean: by draw, by prompt, and the rest; never negative.

    Attributes:
        draw: Variance over draws.
        prompt: Variance over prompts; 0 in a nested design, where it is in the rest.
        rest: What is left, of one prompt in one draw.
    """

    draw: float
    prompt: float
    rest: float

    @classmethod
    def of(cls, cells: Cells) -> Components:
        """Estimate them from a pilot of at least two draws and two prompts."""
        draws, prompts = cells.sizes.shape
        if cells.crossed:
            by_draw, by_prompt, rest = _mean_squares(_scaled(cells))
            return cls(
                float(max(0.0, by_draw - rest) / prompts),
                float(max(0.0, by_prompt - rest) / draws),
                float(rest),
            )
        filled = cells.sizes > 0
        means = cells.totals[filled] / cells.sizes[filled]
        row = np.nonzero(filled)[0]
        counts = np.bincount(row, minlength=draws)
        by_row = np.bincount(row, weights=means, minlength=draws) / counts
        within = float(((means - by_row[row]) ** 2).sum() / (len(means) - draws))
        draw = float(by_row.var(ddof=1) - within * np.mean(1 / counts))
        return cls(max(0.0, draw), 0.0, within)

    def contrast(self, draws: int, prompts: int, *, crossed: bool) -> Contrast:
        """Return what a design would know of a mean of zero.

        Args:
            draws: Seeds, at least 1.
            prompts: Prompts of each test set, at least 2.
            crossed: All draws share their test set.
        """
        cells = draws * prompts
        if not crossed or draws < 2:
            variance = self.draw / draws + (self.prompt + self.rest) / cells
            freedom = float(draws - 1 if draws > 1 else prompts - 1)
            return Contrast(np.zeros(()), np.sqrt(variance), np.asarray(freedom))
        squared, freedoms = _combined(
            np.asarray(self.rest + prompts * self.draw),
            np.asarray(self.rest + draws * self.prompt),
            np.asarray(self.rest),
            draws,
            prompts,
        )
        return Contrast(np.zeros(()), np.sqrt(squared), freedoms)


def infer(cells: Cells) -> Contrast:
    """Return the mean over all pairs with its standard error.

    Args:
        cells: At least one draw and one prompt.

    Returns:
        Arrays of the leading shape of ``cells.totals``. With one draw, the error is
        that of the prompts alone: one draw says nothing about others.
    """
    pairs = cells.sizes.sum()
    value = cells.totals.sum(axis=(-2, -1)) / pairs
    draws, prompts = cells.sizes.shape
    if prompts < 2:
        unknown = np.full_like(value, np.nan)
        return Contrast(value, unknown, unknown)
    if draws == 1:
        parts = _influence(cells, value).sum(axis=-2)
        variance = prompts / (prompts - 1) * (parts**2).sum(axis=-1)
        freedom = np.full_like(value, prompts - 1)
    elif cells.crossed:
        variance, freedom = _combined(*_mean_squares(_scaled(cells)), draws, prompts)
    else:
        variance, freedom = _overlapping(_influence(cells, value), draws, prompts)
    return Contrast(value, np.sqrt(variance), freedom)


def _influence(cells: Cells, value: Floats) -> Floats:
    centred = cells.totals - value[..., None, None] * cells.sizes
    return np.asarray(centred / cells.sizes.sum())


def _scaled(cells: Cells) -> Floats:
    """Return cells whose plain mean is 0, and whose errors are those of the mean."""
    value = cells.totals.sum(axis=(-2, -1)) / cells.sizes.sum()
    return _influence(cells, np.asarray(value)) * cells.sizes.size


def _mean_squares(values: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the mean squares of draws, prompts and rest; ``values`` has mean 0."""
    draws, prompts = values.shape[-2:]
    rows, columns = values.mean(axis=-1), values.mean(axis=-2)
    by_draw = prompts * (rows**2).sum(axis=-1) / (draws - 1)
    by_prompt = draws * (columns**2).sum(axis=-1) / (prompts - 1)
    rest = values - rows[..., :, None] - columns[..., None, :]
    freedom = (draws - 1) * (prompts - 1)
    return by_draw, by_prompt, (rest**2).sum(axis=(-2, -1)) / freedom


def _combined(
    by_draw: Floats, by_prompt: Floats, rest: Floats, draws: int, prompts: int
) -> tuple[Floats, Floats]:
    # A component that comes out negative is zero, and then it has no uncertainty.
    with_draws, with_prompts = by_draw > rest, by_prompt > rest
    total = np.maximum(by_draw, rest) + np.maximum(by_prompt, rest) - rest
    uncertainty = (
        np.where(with_draws, by_draw**2 / (draws - 1), 0)
        + np.where(with_prompts, by_prompt**2 / (prompts - 1), 0)
        + rest**2 / ((draws - 1) * (prompts - 1))
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = np.where(uncertainty > 0, total**2 / uncertainty, prompts - 1)
    return total / (draws * prompts), np.maximum(freedom, draws - 1)


def _overlapping(parts: Floats, draws: int, prompts: int) -> tuple[Floats, Floats]:
    """Return variance and freedom where test sets differ, wholly or in part.

    Draws are clusters; prompts that several draws share add what they have in common
    (two-way clusters; Cameron, Gelbach and Miller, 2011).
    """
    by_draw = draws / (draws - 1) * (parts.sum(axis=-1) ** 2).sum(axis=-1)
    by_prompt = (parts.sum(axis=-2) ** 2).sum(axis=-1)
    shared = by_prompt - (parts**2).sum(axis=(-2, -1))
    shared = np.where(shared < 1e-9 * by_draw, 0, shared)  # rounding is no prompt
    variance = by_draw + shared
    uncertainty = by_draw**2 / (draws - 1) + shared**2 / (prompts - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = np.where(uncertainty > 0, variance**2 / uncertainty, draws - 1)
    return variance, freedom
