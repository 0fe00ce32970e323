"""Centre and scale rewards on held-out labelled pairs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ser_kedro.store.json_io import read_json, write_json

Rewards = NDArray[np.float64]
CALIBRATION = "calibration.json"
# Beyond a factor of 100 either way the fit says only that the model is hopeless.
_TEMPERATURES = (1e-2, 1e2)


@dataclass(frozen=True)
class Calibration:
    """Turns rewards into probabilities: ``σ((r - offset) / temperature)``.

    The pairwise loss fixes neither the zero nor, beyond the training pairs, the scale
    of a reward; without this a threshold on σ(r) means nothing.
    """

    offset: float = 0.0
    temperature: float = 1.0

    def probabilities(self, rewards: Rewards) -> Rewards:
        """Return σ of the calibrated rewards, in [0, 1], of the same shape."""
        scaled = (np.asarray(rewards, np.float64) - self.offset) / self.temperature
        return 0.5 * (1.0 + np.tanh(0.5 * scaled))

    def save(self, folder: Path) -> None:
        """Write it beside the model in ``folder``."""
        write_json(folder / CALIBRATION, asdict(self))

    @classmethod
    def load(cls, folder: Path) -> Calibration:
        """Read what ``save`` wrote."""
        return cls(**read_json(folder / CALIBRATION))


def fit(chosen: Rewards, rejected: Rewards, *, temperature: bool) -> Calibration:
    """Fit a calibration on labelled pairs.

    The offset is the mean reward over both responses. The temperature minimises the
    pairs' log-loss (Guo et al., 2017, for the one-parameter form).

    Args:
        chosen: Raw rewards of the preferred responses, shape ``(n,)``, ``n ≥ 1``.
        rejected: Raw rewards of the others, shape ``(n,)``.
        temperature: Fit it; else it stays 1.
    """
    offset = float(np.mean([np.mean(chosen), np.mean(rejected)]))
    margins = np.asarray(chosen - rejected, np.float64)
    if not temperature or not np.all(np.isfinite(margins)):
        return Calibration(offset if np.isfinite(offset) else 0.0)
    from scipy.optimize import minimize_scalar

    low, high = np.log(_TEMPERATURES)
    best = minimize_scalar(
        lambda t: float(np.mean(log_losses(margins / np.exp(t)))),
        bounds=(low, high),
        method="bounded",
    )
    return Calibration(offset, float(np.exp(best.x)))


def log_losses(margins: Rewards) -> Rewards:
    """Return ``-log σ(margin)`` of each pair, in nats, shape ``(n,)``."""
    return np.logaddexp(0.0, -margins)
