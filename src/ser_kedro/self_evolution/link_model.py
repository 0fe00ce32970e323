"""A trained model's files under another calibration."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from ser_kedro.models.calibration import CALIBRATION, VALIDATION
from ser_kedro.store.layout import link
from ser_kedro.store.references import ModelRef

_KEPT = ("model", "adapter")


def link_model(model: ModelRef, workspace: Path) -> Path:
    """Link a model's files, without what was fitted on its validation pairs.

    Adapters that were kept beside it are linked too.

    Args:
        model: From a training.
        workspace: Where to.

    Returns:
        The new folder.
    """
    for name in _KEPT:
        # What an interruption left half linked is in the way.
        shutil.rmtree(workspace / name, ignore_errors=True)
        if (source := model.location.parent / name).is_dir():
            shutil.copytree(source, workspace / name, copy_function=link)
    folder = workspace / "model"
    for name in (CALIBRATION, VALIDATION):
        (folder / name).unlink()
    return folder


def without_validation(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return metrics without those of pairs that the model has seen."""
    return {
        name: value
        for name, value in metrics.items()
        if not name.startswith("validation")
    }
