"""What a trained model says of the validation pairs, written beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ser_kedro.models.calibration import Rewards, fit, log_losses
from ser_kedro.store.json_io import read_json, write_json
from ser_kedro.store.references import ModelRef

VALIDATION = "validation.json"


def calibrate_model(
    folder: Path, chosen: Rewards, rejected: Rewards, *, temperature: bool
) -> dict[str, Any]:
    """Fit a model's calibration, write it and the rewards beside the model.

    Args:
        folder: The model's folder.
        chosen: Raw rewards of the preferred responses, shape ``(n,)``.
        rejected: Raw rewards of the others, shape ``(n,)``.
        temperature: Fit the scale too.

    Returns:
        What it shows, for the model's metrics.
    """
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


def validation_rewards(model: ModelRef) -> tuple[Rewards, Rewards]:
    """Return a trained model's raw rewards of the validation pairs.

    Returns:
        Rewards of the preferred responses and of the others, each of shape ``(n,)``,
        in the order of ``validation_pairs``.
    """
    rewards = read_json(model.location / VALIDATION)
    return np.array(rewards["chosen"]), np.array(rewards["rejected"])
