"""A model that was trained on every human label, calibrated by one that was not."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from ser_kedro.models.calibration import Calibration
from ser_kedro.self_evolution.link_model import link_model, without_validation
from ser_kedro.store.job import Job
from ser_kedro.store.references import ModelOutputs, ModelRef


class RefitJob(Job[ModelOutputs]):
    """Give a model the temperature of another one, trained alike on fewer labels.

    A temperature that is fitted on pairs that a model was trained on is too low: it
    knows them. The offset, a mean over both responses, hardly depends on that.

    Attributes:
        model: Trained on the validation pairs too.
        held_out: Trained alike, but for these.
    """

    stage: ClassVar[str] = "reward_model"
    libraries: ClassVar[tuple[str, ...]] = ()

    model: ModelRef
    held_out: ModelRef

    @property
    def title(self) -> str:
        """What it does, for the log."""
        return "Keep the temperature of the kept model"

    def work(self, workspace: Path) -> ModelOutputs:
        """Write ``model``: the same files, linked, and another calibration.

        Adapters that were kept beside it are linked too.
        """
        folder = link_model(self.model, workspace)
        calibration = Calibration(
            offset=Calibration.of(self.model).offset,
            temperature=Calibration.of(self.held_out).temperature,
        )
        calibration.save(folder)
        known = without_validation(self.model.metrics)
        changes = {
            "path": "model",
            "fingerprint": self.fingerprint,
            "metrics": {**known, "temperature": calibration.temperature},
        }
        return {"model": self.model.model_copy(update=changes)}
