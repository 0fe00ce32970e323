"""Reward models whose rewards differ."""

import shutil

import pytest
import torch

from ser_kedro.models.calibration import Calibration
from ser_kedro.models.reward_model import load_reward_model


@pytest.fixture
def reward_models(sft_model, project):
    """Two tiny models with random heads, loud enough for their rewards to differ."""
    found = []
    for seed in (1, 2):
        model, tokenizer = load_reward_model(sft_model.location, seed=seed)
        torch.manual_seed(seed)
        torch.nn.init.normal_(model.score.weight, std=5)
        path = f"data/store/reward_model/{seed}"
        folder = project / path
        shutil.copytree(sft_model.location, folder)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        Calibration(temperature=2.0 * seed).save(folder)
        changes = {"kind": "reward_model", "path": path, "fingerprint": f"head{seed}"}
        found.append(sft_model.model_copy(update=changes))
    return found
