"""The job that calibrates a reward model that needs no training."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import ClassVar

from ser_kedro.store.job import Job
from ser_kedro.store.layout import link
from ser_kedro.store.references import ModelOutputs, ModelRef, TableRef


class CalibrateJob(Job[ModelOutputs]):
    """Centre and scale the rewards of a model on held-out labelled pairs.

    Attributes:
        model: A reward model, which stays as it is.
        scores: Its rewards of the validation pairs, the preferred response's first.
        temperature: Fit the scale too.
    """

    stage: ClassVar[str] = "reward_model"
    libraries: ClassVar[tuple[str, ...]] = ("scipy",)

    model: ModelRef
    scores: TableRef
    temperature: bool

    @property
    def title(self) -> str:
        """What it does, for the log."""
        return f"Calibrate {self.model.base_model} on {self.scores.rows:,} pairs"

    def work(self, workspace: Path) -> ModelOutputs:
        """Write ``model``: the same files, linked, and a calibration."""
        from ser_kedro.training.reward_ready import calibrate_on

        folder = workspace / "model"
        # What an interruption left half linked is in the way.
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.model.location, folder, copy_function=link)
        metrics = calibrate_on(self.scores, folder, temperature=self.temperature)
        changes = {
            "path": "model",
            "fingerprint": self.fingerprint,
            "metrics": {**self.model.metrics, **metrics},
        }
        return {"model": self.model.model_copy(update=changes)}
