"""The jobs of cross-fitting: folds, and a calibration out of fold."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from ser_kedro.errors import DataError
from ser_kedro.models.calibration import Calibration, validation_rewards
from ser_kedro.models.fit_calibration import calibrate_model
from ser_kedro.preferences.schema import LABELED
from ser_kedro.self_evolution.link_model import link_model, without_validation
from ser_kedro.store.job import Job
from ser_kedro.store.references import ModelOutputs, ModelRef, TableRef
from ser_kedro.store.tables import read_table, reorder, write_table
from ser_kedro.training.committee import folds_of


class FoldsJob(Job[dict[str, TableRef]]):
    """Cut labelled pairs into folds, the pairs of a prompt group together.

    Attributes:
        pairs: Human labels.
        count: Folds; fewer where there are fewer prompt groups.
        seed: Draws them.
    """

    stage: ClassVar[str] = "folds"
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "pyarrow")

    pairs: TableRef
    count: int
    seed: int

    @property
    def title(self) -> str:
        """What it does, for the log."""
        return f"Cut {self.pairs.rows:,} labelled pairs into {self.count} folds"

    def work(self, workspace: Path) -> dict[str, TableRef]:
        """Write ``held_0``, ``rest_0``, ``held_1`` and so on.

        Raises:
            DataError: If the labels are of one prompt alone.
        """
        table = read_table(self.pairs)
        folds = folds_of(table["group"].to_pylist(), self.count, self.seed)
        if folds.max() == 0:
            raise DataError(
                f"all {len(table)} labelled pairs are of one prompt: nothing can be"
                " held out; give labels of more prompts"
            )

        def batches(rows: Any) -> Iterable[pa.RecordBatch]:
            return reorder(table, np.flatnonzero(rows))

        tables = {}
        for fold in range(folds.max() + 1):
            for name, rows in (("held", folds == fold), ("rest", folds != fold)):
                key = f"{name}_{fold}"
                tables[key] = write_table(workspace, key, batches(rows), LABELED)
        return tables


class CrossfitJob(Job[ModelOutputs]):
    """Calibrate a model by the rewards of models that have not seen the pairs.

    Attributes:
        model: Trained on all human labels.
        folds: Trained alike, each without the labels of a fold, which it was
            calibrated on.
        temperature: Fit the scale, too.
    """

    stage: ClassVar[str] = "reward_model"
    libraries: ClassVar[tuple[str, ...]] = ("scipy",)

    model: ModelRef
    folds: tuple[ModelRef, ...]
    temperature: bool

    @property
    def title(self) -> str:
        """What it does, for the log."""
        return f"Calibrate a model by {len(self.folds)} folds"

    def work(self, workspace: Path) -> ModelOutputs:
        """Write ``model``: the same files, linked, and a calibration out of fold.

        The rewards beside it are of all human labels, fold by fold.
        """
        folder = link_model(self.model, workspace)
        zero = Calibration.of(self.model).offset
        rewards = np.concatenate(
            # Each has a zero of its own.
            [
                np.stack(validation_rewards(fold)) - Calibration.of(fold).offset
                for fold in self.folds
            ],
            axis=1,
        )
        metrics = calibrate_model(
            folder, *(rewards + zero), temperature=self.temperature
        )
        changes = {
            "path": "model",
            "fingerprint": self.fingerprint,
            "metrics": without_validation(self.model.metrics) | metrics,
        }
        return {"model": self.model.model_copy(update=changes)}
