"""What a machine with a GPU adds; every other test runs as if there were none."""

import numpy as np
import pytest
import torch

from benchmarks import launchers as matrix
from ser_kedro.launch.params import INLINE, LauncherParams
from ser_kedro.models.params import Scoring
from ser_kedro.models.reward_model import load_reward_model
from ser_kedro.models.scorer import Scorer
from ser_kedro.store.layout import PROJECT_VARIABLE
from ser_kedro.store.tables import read_table
from tests.end_to_end.conftest import SELF_EVOLVE

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
]

ONE = {"processes": 1, "threads": 1}
ZERO = {**ONE, "kind": "deepspeed"}
LAUNCHERS = {
    "zero2": {**ZERO, "deepspeed": "conf/launch/zero2.json"},
    "zero3": {**ZERO, "deepspeed": "conf/launch/zero3.json"},
    "accelerate": {**ONE, "kind": "accelerate"},
}


@pytest.fixture
def loud(sft_model):
    """A tiny reward model whose rewards differ."""
    model, tokenizer = load_reward_model(sft_model.location, seed=1)
    torch.nn.init.normal_(model.score.weight, std=5)
    model.save_pretrained(sft_model.location)
    tokenizer.save_pretrained(sft_model.location)
    return sft_model.location


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("precision, limit", [("fp32", 1e-3), ("auto", 0.2)])
def test_it_gives_the_rewards_of_the_cpu(loud, unlabeled, packing, precision, limit):
    scoring = Scoring(
        max_length=256, score_tokens=2048, packing=packing, precision=precision
    )
    scorer = Scorer.load(loud, scoring)
    found = scorer.table_rewards(read_table(unlabeled))

    assert scorer.model.device.type == "cuda"
    assert scorer.bf16 is (precision == "auto")
    exact = Scorer.load(loud, scoring.model_copy(update={"precision": "fp32"}))
    exact.model.to("cpu")
    expected = exact.table_rewards(read_table(unlabeled))
    np.testing.assert_allclose(found, expected, atol=limit, rtol=0)
    assert np.ptp(expected) > 2


@pytest.mark.parametrize("name", LAUNCHERS)
def test_a_launched_process_gives_the_rewards_of_this_one(name, tmp_path, monkeypatch):
    monkeypatch.setenv(PROJECT_VARIABLE, "")
    rewards = {}
    for place, launcher in (
        ("inline", INLINE),
        (name, LauncherParams(name=name, **LAUNCHERS[name])),
    ):
        matrix.project(tmp_path / place)
        rewards[place] = matrix.rewards(f"{name}-lora-packed", launcher)

    for part in ("validation", "pool"):
        # Half precision, in which ZeRO holds the weights too.
        found, expected = rewards[name][part], rewards["inline"][part]
        assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.98


def test_the_whole_road(fresh, kedro):
    evolved = kedro(*SELF_EVOLVE, cwd=fresh)
    assert evolved.returncode == 0, evolved.stderr
    done = kedro("run", "--env", "test", "--pipelines", "policy", cwd=fresh)

    assert done.returncode == 0, done.stderr
    assert "gold reward of the SFT model" in done.stderr
