"""Outcome of a loop: go on, stop, and which model to keep."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from ser_kedro.self_evolution.params import EvolutionParams

Floats = NDArray[np.float64]
# Rewards closer together than this tell nothing apart.
_CONSTANT = 1e-6
# Standard errors below which a committee counts as no worse.
_WORSE = 1.0


class Outcome(StrEnum):
    """What came of a loop, in the order in which it is decided."""

    SKIPPED = "skipped"
    COLLAPSED = "collapsed"
    POOL_EMPTY = "pool_empty"
    NO_CONFIDENT_PAIRS = "no_confident_pairs"
    IMPROVED = "improved"
    NOT_WORSE = "not_worse"
    NO_GAIN = "no_gain"
    CONVERGED = "converged"


MAX_LOOPS = "max_loops"
STOPPING = {
    Outcome.COLLAPSED,
    Outcome.POOL_EMPTY,
    Outcome.NO_CONFIDENT_PAIRS,
    Outcome.CONVERGED,
}


@dataclass(frozen=True)
class Comparison:
    """Paired difference in validation log-loss, best so far minus newer model.

    Attributes:
        difference: Mean over the pairs, in nats; positive favours the newer model.
        standard_error: Of that mean.
    """

    difference: float
    standard_error: float

    def favours_new(self, standard_errors: float) -> bool:
        """The newer model is better by more than so many standard errors."""
        return self.difference > standard_errors * self.standard_error

    def favours_best(self, standard_errors: float) -> bool:
        """The newer model is worse by more than so many standard errors."""
        return -self.difference > standard_errors * self.standard_error


def compare(best_losses: Floats, new_losses: Floats) -> Comparison:
    """Compare two models on the same validation pairs.

    Args:
        best_losses: Log-losses of the best model so far, shape ``(n,)``.
        new_losses: Log-losses of the newer model on the same pairs, shape ``(n,)``.
    """
    differences = np.asarray(best_losses - new_losses, np.float64)
    n = len(differences)
    error = float(np.std(differences, ddof=1) / np.sqrt(n)) if n > 1 else float("inf")
    return Comparison(float(np.mean(differences)), error)


def has_collapsed(rewards: Floats) -> bool:
    """Say whether rewards are constant or not finite, so that they rank nothing."""
    return not bool(np.all(np.isfinite(rewards))) or is_constant(rewards)


def is_constant(rewards: Floats) -> bool:
    """Say whether finite rewards are too close together to rank anything."""
    return bool(np.ptp(rewards) < _CONSTANT)


def judge_untrained(rewards: Floats, pool: int) -> Outcome:
    """Say why a loop found nothing to learn from.

    Args:
        rewards: Raw validation rewards of the model before it, any shape.
        pool: Pairs in the loop's pool.
    """
    # A model that ranks nothing selects nothing: the first says why.
    if has_collapsed(rewards):
        return Outcome.COLLAPSED
    return Outcome.NO_CONFIDENT_PAIRS if pool else Outcome.POOL_EMPTY


def judge(
    *,
    rewards: Floats,
    best_losses: Floats,
    new_losses: Floats,
    without_gain: int,
    params: EvolutionParams,
) -> Outcome:
    """Decide the outcome of a loop that trained a model.

    Args:
        rewards: The new model's raw validation rewards, both responses, any shape.
        best_losses: Validation log-losses of the best model so far, shape ``(n,)``.
        new_losses: Those of the new model, shape ``(n,)``.
        without_gain: Loops in a row without gain before this one.
        params: Standard errors and patience.
    """
    if has_collapsed(rewards):
        return Outcome.COLLAPSED
    comparison = compare(best_losses, new_losses)
    if comparison.favours_best(params.collapse_standard_errors):
        return Outcome.COLLAPSED
    if comparison.favours_new(params.standard_errors):
        return Outcome.IMPROVED
    if without_gain + 1 >= params.patience:
        return Outcome.CONVERGED
    return Outcome.NO_GAIN


def judge_committee(comparison: Comparison, params: EvolutionParams) -> Outcome:
    """Decide whether a committee is kept in the place of the best loop's model.

    Few labels cannot tell how good a model is that learned from others of their draw,
    but for large differences: cross-validation says how good such models are on average
    (Hastie et al., 2009, section 7.12). Committees are better on average
    (docs/results.md), so ``unless_worse`` asks for evidence against one.

    Args:
        comparison: Of the best loop's model, and the committee as the newer one.
        params: ``keep_committee``, and the standard errors of a gain.
    """
    if comparison.favours_new(params.standard_errors):
        return Outcome.IMPROVED
    worse = comparison.favours_best(_WORSE)
    if params.keep_committee == "unless_worse" and not worse:
        return Outcome.NOT_WORSE
    return Outcome.NO_GAIN
