"""Label efficiency: how many labels does evolution save?

The seed model's accuracy rises with its labels. Evolution with some labels is as good
as the seed model with more of them; the difference is what it saves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression

from ser_kedro.ablations.compare import BASELINE
from ser_kedro.ablations.outcomes import Key, Outcomes
from ser_kedro.errors import DataError
from ser_kedro.evaluation.params import EvaluationParams
from ser_kedro.statistics.estimate import Estimate
from ser_kedro.statistics.intervals import Cells, infer

EVOLVED = "ser"
_GRID = 100


@dataclass(frozen=True)
class Saving:
    """What evolution at one share of labels is worth in labels.

    Attributes:
        share: Share of the labels that evolution had.
        equivalent: Share at which the seed model alone is as accurate; an end of the
            measured curve where it leaves it.
        low: Lower end of the interval of ``equivalent``; ``None`` where it lies below
            the smallest share measured.
        high: Upper end; ``None`` where it lies above the largest.
        same: Evolution answers as the seed model with these labels, pair by pair.
    """

    share: float
    equivalent: float
    low: float | None
    high: float | None
    same: bool = False

    @property
    def resolved(self) -> bool:
        """The interval does not hold the labels that evolution had itself."""
        if self.same:
            return False
        above = self.low is not None and self.low > self.share
        below = self.high is not None and self.high < self.share
        return above or below


def savings(
    outcomes: Outcomes, params: EvaluationParams, evolved: str = EVOLVED
) -> list[Saving]:
    """Return what evolution saves at every share but the largest.

    For each share ``x`` the interval holds all shares ``z`` for which
    ``evolved(x) - seed(z)`` does not differ significantly from zero, ``seed`` being
    interpolated in the logarithm of the share. The intervals hold together
    (Bonferroni's correction for the number of shares). The point is where the isotonic
    regression of the seed model's accuracies reaches that of evolution.

    Args:
        outcomes: ``seed`` and ``evolved`` at several shares of the same seeds.
        params: Confidence.
        evolved: Name of the method.
    """
    known = outcomes.shares(BASELINE)
    if len(known) < 2:
        return []
    grid = np.geomspace(known[0], known[-1], _GRID)
    at = [z for z in outcomes.shares(evolved) if known[0] <= z < known[-1]]
    confidence = 1 - (1 - params.confidence) / max(1, len(at))
    return [_saving(outcomes, evolved, z, known, grid, confidence) for z in at]


def mean_gain(
    outcomes: Outcomes, params: EvaluationParams, evolved: str = EVOLVED
) -> Estimate:
    """Return what evolution gains on the seed model, as a mean over shares, paired.

    One question for the whole curve: no share is picked from among several.

    Args:
        outcomes: As of ``savings``.
        params: Confidence.
        evolved: Name of the method.

    Raises:
        DataError: If there is no share at which both were measured.
    """
    measured = outcomes.shares(BASELINE)
    shares = [share for share in outcomes.shares(evolved) if share in measured]
    if not shares:
        raise DataError(
            f"outcomes of {outcomes.data}: no share has both {evolved} and {BASELINE}"
        )
    signs = {evolved: 1 / len(shares), BASELINE: -1 / len(shares)}
    weights = {(method, z): sign for z in shares for method, sign in signs.items()}
    return infer(outcomes.cells(weights)).estimate(params.confidence)


def _saving(
    outcomes: Outcomes,
    evolved: str,
    share: float,
    known: list[float],
    grid: NDArray[np.float64],
    confidence: float,
) -> Saving:
    curve: list[Key] = [(BASELINE, z) for z in known]
    # All at once, so that every contrast is read on the same seeds.
    none = dict.fromkeys(curve, 0.0)
    parts = [outcomes.cells({(evolved, share): 0.0} | none | {k: 1}) for k in curve]
    method = outcomes.cells({**none, (evolved, share): 1})
    points = np.unique(np.append(grid, share))
    unresolved = []
    for z in points:
        seed = _interpolate(parts, np.log(known), float(np.log(z)))
        low, high = infer(Cells(method.totals - seed, method.sizes)).bounds(confidence)
        unresolved.append(bool(low <= 0 <= high))
    inside = points[np.array(unresolved)]
    accuracies = np.array([float(infer(part).value) for part in parts])
    equivalent = _reaches(known, accuracies, float(infer(method).value), points)
    if not len(inside):
        inside = np.array([equivalent])  # no error at all
    return Saving(
        share=share,
        equivalent=equivalent,
        low=float(inside[0]) if inside[0] > points[0] else None,
        high=float(inside[-1]) if inside[-1] < points[-1] else None,
        same=share in known
        and np.array_equal(method.totals, parts[known.index(share)].totals),
    )


def _interpolate(
    parts: list[Cells], logs: NDArray[np.float64], at: float
) -> NDArray[np.float64]:
    right = int(np.clip(np.searchsorted(logs, at), 1, len(logs) - 1))
    weight = (at - logs[right - 1]) / (logs[right] - logs[right - 1])
    return np.asarray(
        (1 - weight) * parts[right - 1].totals + weight * parts[right].totals
    )


def _reaches(
    shares: list[float],
    accuracies: NDArray[np.float64],
    target: float,
    points: NDArray[np.float64],
) -> float:
    """Return the first of ``points`` at which the rising curve reaches ``target``."""
    rising = IsotonicRegression().fit_transform(np.log(shares), accuracies)
    curve = np.interp(np.log(points), np.log(shares), rising)
    reached = np.nonzero(curve >= target)[0]
    return float(points[reached[0]] if len(reached) else points[-1])


def sentence(saving: Saving, labels: int | None = None) -> str:
    """Say what evolution saves at one share, or that this is not significant.

    Args:
        saving: At that share.
        labels: Human labels at a share of 1, to speak of numbers too.
    """
    if saving.same:
        return (
            f"With {saving.share:.0%} of the labels, self-evolution kept the seed"
            " model, or one that makes identical predictions: it saves none."
        )
    low = f"{saving.low:.1%}" if saving.low is not None else "less than was measured"
    high = f"{saving.high:.1%}" if saving.high is not None else "more than was measured"
    text = (
        f"With {saving.share:.0%} of the labels, self-evolution is as good as the seed"
        f" model with {saving.equivalent:.1%} [{low}, {high}]"
    )
    if not saving.resolved:
        return f"{text}: what it saves is not significant on this test set."
    if saving.equivalent < saving.share:
        return f"{text}: it costs labels."
    if labels is None:
        return f"{text}: it saves labels."
    saved = round(labels * (saving.equivalent - saving.share))
    return f"{text}: it saves {saved:,} of {labels:,} labels."
