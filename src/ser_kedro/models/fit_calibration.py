"""Centre and scale rewards on held-out labelled pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ser_kedro.errors import ModelError
from ser_kedro.models.calibration import (
    VALIDATION,
    Calibration,
    Rewards,
    log_losses,
)
from ser_kedro.store.json_io import write_json

# Beyond a factor of 100 either way the fit says only that the model is hopeless.
_TEMPERATURES = (1e-2, 1e2)


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
    low, high = np.log(_TEMPERATURES)
    from scipy.optimize import minimize_scalar

    best = minimize_scalar(
        lambda t: float(np.mean(log_losses(margins / np.exp(t)))),
        bounds=(low, high),
        method="bounded",
    )
    return Calibration(offset, float(np.exp(best.x)))


def calibrate_model(
    folder: Path, chosen: Rewards, rejected: Rewards, *, temperature: bool
) -> dict[str, float]:
    """Fit a model's calibration, write it and the rewards beside the model.

    Args:
        folder: The model's folder.
        chosen: Raw rewards of the preferred responses, shape ``(n,)``.
        rejected: Raw rewards of the others, shape ``(n,)``.
        temperature: Fit the scale too.

    Returns:
        What it shows, for the model's metrics.

    Raises:
        ModelError: If a reward is infinite or NaN: nothing can be told apart by those.
    """
    broken = np.sum(~np.isfinite(chosen) | ~np.isfinite(rejected))
    if broken:
        raise ModelError(
            f"reward model: its rewards of {broken} of {len(chosen)}"
            " validation pairs are infinite or NaN; lower reward.learning_rate, or"
            " start from another model"
        )
    calibration = fit(chosen, rejected, temperature=temperature)
    calibration.save(folder)
    rewards = {"chosen": chosen.tolist(), "rejected": rejected.tolist()}
    write_json(folder / VALIDATION, rewards)
    margins = (chosen - rejected) / calibration.temperature
    return {
        "validation_pairs": len(margins),
        "validation_accuracy": float(np.mean((margins > 0) + 0.5 * (margins == 0))),
        "validation_log_loss": float(np.mean(log_losses(margins))),
        "offset": calibration.offset,
        "temperature": calibration.temperature,
    }
