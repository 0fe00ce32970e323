import shutil

import pytest
import torch

from ser_kedro.errors import PolicyError
from ser_kedro.launch.executor import run
from ser_kedro.models.encode import Encoder
from ser_kedro.models.params import LoraParams, Scoring
from ser_kedro.models.reward_model import load_reward_model
from ser_kedro.models.scorer import Scorer
from ser_kedro.policy.ppo import Ppo
from ser_kedro.policy.train import gold_of
from ser_kedro.preferences.demo_world.world import gold_reward
from ser_kedro.preferences.schema import Message
from ser_kedro.store.tables import read_table
from tests.conftest import WORLD


def state(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def test_the_scorer_scores_as_the_model_does(reward_model, train_rows):
    prompts = [row["prompt"] for row in train_rows[:5]]
    responses = [*(row["chosen"] for row in train_rows[:4]), ""]
    model, tokenizer = load_reward_model(reward_model.location, seed=0)
    encoder = Encoder(tokenizer, 256)

    scorer = Scorer.load(
        reward_model.location,
        Scoring(max_length=256, score_tokens=4096),
    )
    rewards = scorer.text_rewards(prompts, responses)

    for prompt, response, reward in zip(prompts[:4], responses, rewards):
        ids = tokenizer(encoder.text(prompt, response), return_tensors="pt")
        with torch.no_grad():
            expected = model(input_ids=ids["input_ids"]).logits.item()
        assert reward == pytest.approx(expected, abs=1e-5)
    assert len(rewards) == 5
    assert len(set(rewards)) == 5


@pytest.mark.parametrize("lora", [None, LoraParams(r=4, alpha=8)])
def test_the_policy_is_a_plain_language_model(job, sft_model, lora):
    outputs = run(job(lora=lora, kl_bound=1e6))

    before = state(sft_model.load_model())
    last = outputs["last_policy"]
    after = state(last.load_model())
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert all("proj" in name for name in moved) if lora else moved == before.keys()
    assert moved
    assert last.load_tokenizer().eos_token == "<|end|>"
    kinds = {name: output.kind for name, output in outputs.items()}
    assert kinds == {
        "policy": "language_model",
        "last_policy": "language_model",
        "history": "table",
        "samples": "table",
    }
    assert outputs["policy"].fingerprint != outputs["last_policy"].fingerprint
    files = {path.name for path in last.location.parent.iterdir()}
    assert files == {
        "policy",
        "last_policy",
        "history.arrow",
        "samples.arrow",
        "result.json",
    }


def test_history_and_samples(job, train_rows):
    outputs = run(job())

    rows = read_table(outputs["history"]).to_pylist()
    assert [row["step"] for row in rows] == [0, 1, 2, 3]
    assert rows[0]["reward"] is None
    assert rows[0]["held_out_kl"] == 0.0
    assert rows[1]["held_out_reward"] is None
    for row in rows[1:]:
        measured = {n: v for n, v in row.items() if not n.startswith("held_out")}
        measured.pop("explained_variance")
        assert None not in measured.values()
    samples = read_table(outputs["samples"]).to_pylist()
    assert len(samples) == 4
    asked = [row["prompt"] for row in train_rows[:12]]
    assert all(sample["prompt"] in asked for sample in samples)
    metrics = outputs["policy"].metrics
    assert metrics["prompts"] == 8
    assert metrics["steps"] == 3
    assert metrics["held_out_gold"] is not None


def test_rloo_gives_the_same_outputs(job, sft_model, reward_model):
    described = job(
        algorithm="rloo", answers_per_prompt=2, kl_bound=1e6, missing_eos_penalty=0.0
    )
    outputs = run(described)

    names = ["history", "last_policy", "policy", "samples"]
    assert sorted(outputs) == names
    rows = read_table(outputs["history"]).to_pylist()
    assert [row["step"] for row in rows] == [0, 1, 2, 3]
    before = state(sft_model.load_model())
    after = state(outputs["last_policy"].load_model())
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    # The rewards are those of our own scorer, also where a sigmoid is maximised.
    scorer = Scorer.load(
        reward_model.location,
        Scoring(max_length=256, score_tokens=4096),
    )
    samples = read_table(outputs["samples"]).to_pylist()
    asked = [row["prompt"] for row in samples]
    for answers, rewards in (("before", "reward_before"), ("after", "reward_after")):
        scored = scorer.text_rewards(asked, [row[answers] for row in samples])
        assert [row[rewards] for row in samples] == pytest.approx(scored, abs=1e-5)


def test_the_best_policy_is_the_start_where_no_other_is_within_the_bound(
    job, sft_model
):
    outputs = run(job(kl_bound=1e-9, kl_coefficient=0.0))

    assert outputs["policy"].metrics["step"] == 0
    before = state(sft_model.load_model())
    after = state(outputs["policy"].load_model())
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_gold_is_the_worlds_own(train_rows):
    prompts = [row["prompt"] for row in train_rows[:3]]
    texts = [row["chosen"] for row in train_rows[:3]]

    found = gold_of(WORLD)(prompts, texts)

    expected = [
        gold_reward(WORLD, [Message(**turn) for turn in prompt], text)
        for prompt, text in zip(prompts, texts)
    ]
    assert found == expected


def test_a_rerun_resumes_to_the_same_weights(job, monkeypatch, tmp_path):
    described = job(save_steps=2)
    whole = tmp_path / "whole"
    whole.mkdir()
    described.work(whole)
    rollout, steps = Ppo.rollout, []

    def break_off(self):
        steps.append(self.progress.step)
        if len(steps) == 3:
            raise PolicyError("broken off")
        return rollout(self)

    monkeypatch.setattr(Ppo, "rollout", break_off)
    with pytest.raises(PolicyError):
        run(described)

    outputs = run(described)

    assert steps == [0, 1, 2, 2]
    for name in ("policy", "last_policy"):
        file = "model.safetensors"
        found = (outputs[name].location / file).read_bytes()
        assert found == (whole / name / file).read_bytes()
    table = outputs["history"].location.read_bytes()
    assert table == (whole / "history.arrow").read_bytes()
    shutil.rmtree(whole)
