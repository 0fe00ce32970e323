"""What was fitted on a model's validation pairs, and what it says of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ser_kedro.store.json_io import read_json, write_json
from ser_kedro.store.references import ModelRef

Rewards = NDArray[np.float64]
CALIBRATION, VALIDATION = "calibration.json", "validation.json"


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
    def of(cls, model: ModelRef) -> Calibration:
        """Return what was fitted on a model's validation pairs."""
        return cls.load(model.location)

    @classmethod
    def load(cls, folder: Path) -> Calibration:
        """Read what ``save`` wrote."""
        return cls(**read_json(folder / CALIBRATION))


def log_losses(margins: Rewards) -> Rewards:
    """Return ``-log σ(margin)`` of each pair, in nats, shape ``(n,)``."""
    return np.logaddexp(0.0, -margins)


def validation_rewards(model: ModelRef) -> tuple[Rewards, Rewards]:
    """Return a trained model's raw rewards of the validation pairs.

    Returns:
        Rewards of the preferred responses and of the others, each of shape ``(n,)``,
        in the order of ``validation_pairs``.
    """
    rewards = read_json(model.location / VALIDATION)
    return np.array(rewards["chosen"]), np.array(rewards["rejected"])
