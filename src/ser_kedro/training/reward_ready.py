"""Calibrate a ready reward model on its scores of held-out pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ser_kedro.errors import DataError
from ser_kedro.models.fit_calibration import calibrate_model
from ser_kedro.store.references import TableRef
from ser_kedro.store.tables import read_table


def calibrate_on(
    scores: TableRef, folder: Path, *, temperature: bool
) -> dict[str, float]:
    """Write a calibration beside a model, and return what was measured.

    Args:
        scores: As of ``CalibrateJob``.
        folder: The model's folder.
        temperature: Fit the scale too.

    Raises:
        DataError: If there are no validation pairs.
    """
    if scores.rows == 0:
        raise DataError("reward model: there are no validation pairs")
    table = read_table(scores)
    chosen, rejected = (
        table[name].to_numpy().astype(np.float64) for name in ("reward_a", "reward_b")
    )
    return calibrate_model(folder, chosen, rejected, temperature=temperature)
