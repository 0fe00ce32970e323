"""The job that averages the weights of reward models."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from ser_kedro.errors import ParameterError
from ser_kedro.store.job import Job
from ser_kedro.store.references import ModelOutputs, ModelRef, TableRef
from ser_kedro.training.params import RewardParams


class AverageJob(Job[ModelOutputs]):
    """Average weights (WARM, Ramé et al., 2024) and calibrate what comes out.

    Attributes:
        models: Reward models of one architecture.
        validation: Labelled pairs that no training reads.
        params: How they are applied.
    """

    stage: ClassVar[str] = "reward_model"
    libraries: ClassVar[tuple[str, ...]] = ("torch", "transformers", "scipy")

    models: tuple[ModelRef, ...]
    validation: TableRef
    params: RewardParams

    @property
    def title(self) -> str:
        """What it does, for the log."""
        return f"Average the weights of {len(self.models)} models"

    def work(self, workspace: Path) -> ModelOutputs:
        """Write ``model``, a folder as ``TrainRewardJob`` writes.

        Raises:
            ParameterError: If the models are heads on a frozen one.
        """
        if self.params.trainable == "head":
            raise ParameterError(
                "self_evolve.average: a head on frozen features has no weights to"
                " average but its own; give reward.trainable=full or average=none"
            )
        from ser_kedro.training.average import average_models

        metrics = average_models(
            self.models, self.validation, self.params, workspace / "model"
        )
        made = ModelRef(
            kind="reward_model",
            path="model",
            fingerprint=self.fingerprint,
            base_model=self.models[0].base_model,
            metrics=metrics,
        )
        return {"model": made}
