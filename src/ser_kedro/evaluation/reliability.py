"""Calibration: is a reward difference the log-odds that annotators agree?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from plotly.graph_objects import Figure, Scatter
from scipy.special import expit
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

Floats = NDArray[np.float64]
_SIMULATED = 200


@dataclass(frozen=True)
class CalibrationFigures:
    """How well ``σ(margin / temperature)`` predicts how often a model is right.

    Attributes:
        temperature: That the margins were divided by.
        ece: Expected calibration error over equal bins of the confidence, in [0, ½].
        expected: What a calibrated model with these confidences stays below in 95 of
            100 test sets of this size: the error is never 0 by chance.
        brier: Brier score of the probability that ``chosen`` is better, in [0, 1].
        predicted: Mean confidence of each filled bin, in [½, 1].
        observed: Share of right answers in it.
        pairs: Pairs in it.
    """

    temperature: float
    ece: float
    expected: float
    brier: float
    predicted: list[float]
    observed: list[float]
    pairs: list[int]

    @property
    def miscalibrated(self) -> bool:
        """The error is larger than chance explains."""
        return self.ece > self.expected


def calibration(
    chosen: Floats, rejected: Floats, *, temperature: float, bins: int
) -> CalibrationFigures:
    """Measure calibration on labelled pairs.

    Each pair is read both ways round, so that ties count as half and neither side of a
    pair is special. The expected error under perfect calibration is found by drawing
    labels from the model's own probabilities (consistency resampling; Bröcker and
    Smith, 2007).

    Args:
        chosen: Raw rewards of the preferred responses, shape ``(n,)``, ``n ≥ 1``.
        rejected: Raw rewards of the others.
        temperature: Divides the margins; 1 for the model as it is.
        bins: Bins of the confidence between ½ and 1.
    """
    margins = (np.asarray(chosen, np.float64) - rejected) / temperature
    probability = expit(margins)
    truth = np.repeat([1, 0], len(margins))
    both = np.concatenate([probability, 1 - probability])
    observed, predicted = calibration_curve(truth, both, n_bins=2 * bins)
    counts = np.bincount(_bins(both, bins), minlength=2 * bins)
    upper = predicted >= 0.5
    filled = counts[counts > 0][upper]
    rng = np.random.default_rng(0)
    drawn = rng.random((_SIMULATED, len(margins))) < probability
    by_chance = [_error(probability, labels, bins) for labels in drawn]
    return CalibrationFigures(
        temperature=temperature,
        ece=calibration_error(margins, bins),
        expected=float(np.quantile(by_chance, 0.95)),
        brier=float(brier_score_loss(truth, both)),
        predicted=predicted[upper].tolist(),
        observed=observed[upper].tolist(),
        pairs=filled.tolist(),
    )


def calibration_error(margins: Floats, bins: int) -> float:
    """Return the expected calibration error of ``σ(margin)``, in [0, ½].

    Args:
        margins: Reward of the preferred response minus the other's, shape ``(n,)``.
        bins: As in ``calibration``.
    """
    return _error(expit(margins), np.ones(len(margins), bool), bins)


def _bins(probability: Floats, bins: int) -> NDArray[np.int64]:
    edges = np.linspace(0, 1, 2 * bins + 1)
    return np.searchsorted(edges[1:-1], probability)


def _error(probability: Floats, labels: NDArray[np.bool_], bins: int) -> float:
    """Return the expected calibration error (Guo et al., 2017) of both sides."""
    both = np.concatenate([probability, 1 - probability])
    truth = np.concatenate([labels, ~labels]).astype(np.float64)
    gaps = np.bincount(_bins(both, bins), truth - both, minlength=2 * bins)
    return float(abs(gaps).sum() / len(both))


def reliability_figure(curves: dict[str, CalibrationFigures]) -> Any:
    """Draw observed against predicted, a line a name, as a Plotly figure."""
    ideal = Scatter(
        x=[0.5, 1],
        y=[0.5, 1],
        mode="lines",
        line={"dash": "dash", "color": "grey"},
        name="calibrated",
    )
    lines = [
        Scatter(
            x=curve.predicted,
            y=curve.observed,
            text=[f"{count:,} pairs" for count in curve.pairs],
            mode="lines+markers",
            name=f"{name} (ECE {curve.ece:.3f})",
        )
        for name, curve in curves.items()
    ]
    figure = Figure([ideal, *lines])
    figure.update_layout(
        title="Reliability on the test pairs",
        xaxis={"title": "confidence in the preferred side", "tickformat": ".0%"},
        yaxis={"title": "share that annotators agree with", "tickformat": ".0%"},
    )
    return figure
