"""PPO and RLOO under a launcher, with two real processes."""

import math

import pytest
import torch
from safetensors.torch import load_file

from ser_kedro.errors import ParameterError
from ser_kedro.launch.executor import run
from ser_kedro.launch.params import LauncherParams
from ser_kedro.store.tables import read_table

pytestmark = pytest.mark.slow

TWO = LauncherParams(
    name="two", kind="torchrun", processes=2, threads=1, devices=(), timeout=300
)


def weights(outputs):
    return load_file(outputs["last_policy"].location / "model.safetensors")


def test_two_ranks_train_as_one_does(job, tmp_path, caplog):
    # Ranks sample from generators of their own. Only where nothing is left to chance,
    # neither an answer (top-k 1) nor the rows of a mini-batch, must they agree.
    described = job(top_k=1, steps=2, mini_batch_size=8, learning_rate=1e-3)
    alone = tmp_path / "alone"
    alone.mkdir()
    described.work(alone)

    with caplog.at_level("INFO"):
        outputs = run(described, TWO)

    assert "ppo: 2 steps of 8 answers to 8 prompts; ranks: 2" in caplog.text
    found, expected = (
        weights(outputs),
        load_file(alone / "last_policy" / "model.safetensors"),
    )
    start = load_file(described.sft_model.location / "model.safetensors")
    moved = max((expected[n] - start[n]).abs().max() for n in start if n in expected)
    assert moved > 1e-3
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-5, rtol=1e-4)
    ours = read_table(outputs["history"]).to_pylist()
    assert [row["step"] for row in ours] == [0, 1, 2]
    assert ours[1]["updates"] == 2
    assert all(math.isfinite(row["kl"]) for row in ours[1:])
    assert read_table(outputs["samples"]).num_rows == 4


def test_rloo_runs_in_two_ranks(job, caplog):
    described = job(algorithm="rloo", answers_per_prompt=2, steps=2)

    with caplog.at_level("INFO"):
        outputs = run(described, TWO)

    assert "rloo: 2 steps of 8 answers to 8 prompts; ranks: 2" in caplog.text
    rows = read_table(outputs["history"]).to_pylist()
    assert [row["step"] for row in rows] == [0, 1, 2]
    assert rows[1]["kl"] == pytest.approx(0, abs=1e-4)
    start = load_file(described.sft_model.location / "model.safetensors")
    ended = weights(outputs)
    assert any(not torch.equal(start[name], ended[name]) for name in start)


def test_deepspeed_is_refused_in_one_line(job, monkeypatch, tmp_path):
    monkeypatch.setenv("SER_KEDRO_LAUNCH", "x")
    monkeypatch.setenv("SER_KEDRO_DEEPSPEED", "zero3.json")

    with pytest.raises(ParameterError, match="launcher=gpu8_ddp") as raised:
        job().work(tmp_path)

    assert "\n" not in str(raised.value)
