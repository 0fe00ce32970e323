"""The mean of several models' weights, as one model."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from ser_kedro.errors import ParameterError
from ser_kedro.models.log_filters import quiet
from ser_kedro.models.validation import calibrate_model
from ser_kedro.store.job import Job
from ser_kedro.store.references import ModelOutputs, ModelRef, TableRef
from ser_kedro.store.tables import read_table
from ser_kedro.training.params import RewardParams, uses_bf16

_SAMPLE = 8


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

    @quiet()
    def work(self, workspace: Path) -> ModelOutputs:
        """Write ``model``, a folder as ``TrainRewardJob`` writes."""
        from ser_kedro.models import pack
        from ser_kedro.models.encode import Encoder
        from ser_kedro.models.reward_model import load_reward_model
        from ser_kedro.models.scorer import Scorer, save_checked

        if self.params.trainable == "head":
            raise ParameterError(
                "self_evolve.average: a head on frozen features has no weights to"
                " average but its own; give reward.trainable=full or average=none"
            )
        loaded = [load_reward_model(each.location, seed=0) for each in self.models]
        model, tokenizer = loaded[0]
        states = [other.state_dict() for other, _ in loaded]
        model.load_state_dict(
            {
                name: sum(state[name] for state in states) / len(states)
                for name in states[0]
            }
        )
        encoder = Encoder(tokenizer, self.params.max_length)
        scorer = Scorer(
            model,
            encoder,
            pack.enable(model, wanted=self.params.packing),
            self.params.score_tokens,
            uses_bf16(self.params.precision),
        )
        folder = workspace / "model"
        pairs = read_table(self.validation)
        columns = pairs.slice(0, _SAMPLE).select(["prompt", "chosen", "rejected"])
        sample = encoder.pairs(*columns.to_pydict().values())
        metrics = {"reload_gap": save_checked(scorer, folder, sample)}
        rewards = scorer.table_rewards(pairs).astype(np.float64)
        metrics |= calibrate_model(
            folder, *rewards.T, temperature=self.params.fit_temperature
        )
        made = ModelRef(
            kind="reward_model",
            path="model",
            fingerprint=self.fingerprint,
            base_model=self.models[0].base_model,
            metrics=metrics,
        )
        return {"model": made}
