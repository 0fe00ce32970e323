"""Power: how large a difference a test set and some seeds can show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from ser_kedro.statistics.intervals import Components, Contrast
from ser_kedro.statistics.params import StatisticsParams


@dataclass(frozen=True)
class Guess:
    """What is assumed of a paired difference before anything has been measured.

    Attributes:
        disagreement: Share of the pairs that only one of the two methods ranks right.
        correlation: Of the differences of two pairs of one prompt.
        seed_deviation: Standard deviation of the true difference over seeds.
    """

    disagreement: float = 0.2
    correlation: float = 0.1
    seed_deviation: float = 0.01

    def components(self, pairs_per_prompt: float) -> Components:
        """Return the variances, of a mean over the pairs of one prompt."""
        alone = 1 / pairs_per_prompt
        rest = self.disagreement * (alone + self.correlation * (1 - alone))
        return Components(self.seed_deviation**2, 0.0, rest)


def smallest_difference(
    contrast: Contrast, params: StatisticsParams, comparisons: int = 1
) -> float:
    """Return the true difference that would be found significant with the asked power.

    Args:
        contrast: Of a difference; only its error and freedom count.
        params: Confidence and power.
        comparisons: Size of the family; each is tested at ``alpha / comparisons``,
            which is Holm's first and strictest step.

    Returns:
        A difference in accuracy, in [0, 1]; NaN where the error is unknown.
    """
    alpha = (1 - params.confidence) / comparisons
    quantiles = t.ppf(1 - alpha / 2, contrast.freedom) + t.ppf(
        params.power, contrast.freedom
    )
    return float(quantiles * contrast.error)


def of_one_run(groups: NDArray[np.str_], params: StatisticsParams) -> float:
    """Return the difference that one run's test pairs are enough to find.

    What two models differ by is guessed (``Guess``); other seeds are not thought of.

    Args:
        groups: Prompt group of each test pair, shape ``(n,)``.
        params: Confidence and power.

    Returns:
        A difference in accuracy, at most 1; 1 where there is one prompt alone.
    """
    prompts = len(np.unique(groups))
    if prompts < 2:
        return 1.0
    known = Guess(seed_deviation=0).components(len(groups) / prompts)
    contrast = known.contrast(1, prompts, crossed=False)
    return min(1.0, smallest_difference(contrast, params))


def before(
    groups: NDArray[np.str_],
    *,
    seeds: int,
    comparisons: int,
    crossed: bool,
    params: StatisticsParams,
    pilot: Components | None = None,
) -> str:
    """Say what a comparison can show, before it runs.

    Args:
        groups: Prompt group of each pair of one test set, shape ``(n,)``.
        seeds: Seeds of each method.
        comparisons: Methods that will be compared with the seed model.
        crossed: All seeds share the test set.
        params: Confidence and power.
        pilot: Variances of a difference that was measured before, such as on the
            development seeds; without it a guess is used, and named.
    """
    prompts = len(np.unique(groups))
    guess = Guess()
    known = pilot or guess.components(len(groups) / prompts)
    contrast = known.contrast(seeds, prompts, crossed=crossed)
    single, family = (
        smallest_difference(contrast, params, count) for count in (1, comparisons)
    )
    basis = (
        "the variances measured before"
        if pilot
        else f"the guess that methods disagree on {guess.disagreement:.0%} of the pairs"
        f" and that seeds differ by {100 * guess.seed_deviation:g} points"
    )
    return (
        f"{len(groups):,} test pairs of {prompts:,} prompts and {seeds} seeds can show"
        f" a difference of {100 * single:.1f} points with a power of"
        f" {params.power:.0%}, {100 * family:.1f} points among {comparisons}"
        f" comparisons; by {basis}."
    )
