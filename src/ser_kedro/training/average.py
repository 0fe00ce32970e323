"""The mean of several models' weights, as one model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ser_kedro.models import pack
from ser_kedro.models.device import device
from ser_kedro.models.encode import Encoder
from ser_kedro.models.fit_calibration import calibrate_model
from ser_kedro.models.precision import uses_bf16
from ser_kedro.models.reward_model import load_reward_model
from ser_kedro.models.scorer import Scorer, save_checked
from ser_kedro.models.speed_trial import Use
from ser_kedro.store.references import ModelRef, TableRef
from ser_kedro.store.tables import read_table
from ser_kedro.training.params import RewardParams

_SAMPLE = 8


def average_models(
    models: Sequence[ModelRef],
    validation: TableRef,
    params: RewardParams,
    folder: Path,
) -> dict[str, float]:
    """Save the mean of the models' weights, calibrated.

    Args:
        models: As of ``AverageJob``.
        validation: As there.
        params: As there.
        folder: Where to save.

    Returns:
        What was measured on the validation pairs.
    """
    loaded = [load_reward_model(each.location, seed=0) for each in models]
    model, tokenizer = loaded[0]
    states = [other.state_dict() for other, _ in loaded]
    model.load_state_dict(
        {name: sum(state[name] for state in states) / len(states) for name in states[0]}
    )
    model.to(device())  # type: ignore[arg-type]
    encoder = Encoder(tokenizer, params.max_length)
    use = Use("labelling", params.max_length)
    bf16 = uses_bf16(params.precision, model.config, use)
    packing = pack.enable(model, wanted=params.packing, bf16=bf16)
    scorer = Scorer(model, encoder, packing, params.score_tokens, bf16)
    pairs = read_table(validation)
    columns = pairs.slice(0, _SAMPLE).select(["prompt", "chosen", "rejected"])
    sample = encoder.pairs(*columns.to_pydict().values())
    metrics = {"reload_gap": save_checked(scorer, folder, sample)}
    rewards = scorer.settled().table_rewards(pairs).astype(np.float64)
    temperature = params.fit_temperature
    return metrics | calibrate_model(folder, *rewards.T, temperature=temperature)
