import json
import math
import os
import signal
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from ser_kedro.errors import DataError, PolicyError
from ser_kedro.models.calibration import Calibration
from ser_kedro.models.params import LoraParams
from ser_kedro.policy.actor_critic import ActorCritic
from ser_kedro.policy.ppo import Ppo
from ser_kedro.policy.ppo_checkpoint import WEIGHTS
from tests.policy.conftest import PROMPTS, WORDS, count_of_a, dialogue, ppo_params

pytestmark = pytest.mark.slow


def weights(ppo):
    return {n: w.detach().clone() for n, w in ppo.actor.trainable().items()}


# ------------------------------------------------------------------------ it learns

RIGHT = {"x": "a", "y": "b", "z": "c"}
BETA = 0.1


def right_word(prompts, responses):
    asked = [prompt[-1]["content"] for prompt in prompts]
    return [float(RIGHT[a] == r) for a, r in zip(asked, responses)]


def objective(ppo):
    """The mean of reward - β KL over the prompts, computed exactly, and its optimum."""
    reached, optimum = [], []
    for word, answer in RIGHT.items():
        ids = torch.tensor([ppo.encoder.prompt_ids(dialogue(word))])
        rewards = torch.zeros(len(WORDS))
        rewards[WORDS.index(answer)] = 1.0
        with torch.no_grad():
            log_policy = ppo.actor.causal(input_ids=ids).logits[0, -1].log_softmax(-1)
            with ppo.actor._as_reference() as reference:
                log_start = reference(input_ids=ids).logits[0, -1].log_softmax(-1)
        kl = (log_policy.exp() * (log_policy - log_start)).sum()
        reached.append(float((log_policy.exp() * rewards).sum() - BETA * kl))
        # π* ∝ reference · exp(reward / β), whose value is β log E exp(reward / β).
        optimum.append(BETA * float((log_start + rewards / BETA).logsumexp(-1)))
    return sum(reached) / 3, sum(optimum) / 3


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_bandit_comes_within_95_percent_of_its_optimum(begin, lora, seed):
    ppo = begin(
        ppo_params(
            lora=lora,
            steps=60,
            batch_size=48,
            mini_batch_size=24,
            ppo_epochs=4,
            learning_rate=6e-3 if lora else 4e-3,
            # At the optimum every advantage is 0; white ones would be noise.
            whiten_advantages=False,
            max_new_tokens=1,
            kl_coefficient=BETA,
            adaptive_kl=False,
            save_steps=100,
            eval_prompts=0,
        ),
        right_word,
        seed=seed,
        prompts=[dialogue(word) for word in RIGHT],
    )
    start, optimum = objective(ppo)

    ppo.run()

    reached, _ = objective(ppo)
    assert start < 0.3 * optimum
    assert 0.95 * optimum < reached < optimum + 1e-6


def test_longer_answers_learn_to_hold_what_is_wanted(begin):
    ppo = begin(
        ppo_params(
            steps=15,
            batch_size=32,
            mini_batch_size=8,
            learning_rate=5e-3,
            kl_coefficient=0.05,
            eval_steps=15,
        )
    )

    history = ppo.run().history

    assert history[-1]["held_out_reward"] > history[0]["held_out_reward"] + 2
    assert history[-1]["reward"] > history[1]["reward"] + 2


def test_a_very_high_kl_coefficient_holds_the_policy(begin):
    sizes = {"batch_size": 32, "mini_batch_size": 8, "learning_rate": 1e-3}
    held = ppo_params(steps=20, adaptive_kl=False, **sizes)
    free = begin(held.model_copy(update={"kl_coefficient": 0.0}), folder="free").run()
    fixed = begin(held.model_copy(update={"kl_coefficient": 1e3})).run()

    assert free.last.kl > 1.0
    assert abs(fixed.last.kl) < 0.01 * free.last.kl


def test_at_the_start_kl_is_zero_and_the_first_ratio_one(begin, lora):
    once = {"ppo_epochs": 1, "mini_batch_size": 8}
    ppo = begin(ppo_params(lora=lora, steps=1, **once))

    history = ppo.run().history

    assert history[0]["held_out_kl"] == 0.0
    assert history[1]["kl"] == 0.0
    assert history[1]["ratio"] == pytest.approx(1, abs=1e-5)
    assert history[1]["clip_fraction"] == 0.0
    assert history[1]["update_kl"] == pytest.approx(0, abs=1e-9)


def test_every_trainable_parameter_moves_and_no_other(begin, lora):
    ppo = begin(ppo_params(lora=lora))
    before = weights(ppo)
    frozen = {
        name: weight.detach().clone()
        for name, weight in ppo.actor.named_parameters()
        if not weight.requires_grad
    }

    ppo.run()

    assert all(not torch.equal(before[n], w) for n, w in weights(ppo).items())
    after = dict(ppo.actor.named_parameters())
    assert all(torch.equal(weight, after[name]) for name, weight in frozen.items())
    assert bool(frozen) == (lora is not None)


@pytest.mark.parametrize("algorithm", ["ppo", "rloo"])
def test_layers_below_the_adapted_ones_are_run_forward_only(begin, algorithm):
    lora = LoraParams(r=8, alpha=16, last_layers=1)
    sizes = {"steps": 1, "answers_per_prompt": 4, "kl_coefficient": 0.1}
    ppo = begin(
        ppo_params(algorithm=algorithm, lora=lora, gradient_checkpointing=True, **sizes)
    )
    before = weights(ppo)
    first, last = ppo.actor.causal.model.layers
    graphs = {"first": set(), "last": set()}
    for name, layer in (("first", first), ("last", last)):
        layer.register_forward_hook(
            lambda _, __, output, name=name: graphs[name].add(output.requires_grad)
        )

    ppo.run()

    assert graphs == {"first": {False}, "last": {False, True}}
    assert not any(weight.requires_grad for weight in first.parameters())
    adapters = {n: w for n, w in weights(ppo).items() if "lora" in n}
    assert all(not torch.equal(before[n], w) for n, w in adapters.items())


@pytest.mark.parametrize("optimizer", ["adafactor", "adamw"])
@pytest.mark.parametrize("micro", [None, 1])
def test_micro_batches_and_optimizers(begin, optimizer, micro):
    ppo = begin(
        ppo_params(
            optimizer=optimizer,
            micro_batch_size=micro,
            rollout_batch_size=3,
            gradient_checkpointing=True,
        )
    )
    before = weights(ppo)

    ppo.run()

    assert all(not torch.equal(before[n], w) for n, w in weights(ppo).items())


def test_micro_batches_change_no_gradient(begin):
    found = []
    for micro in (None, 1, 2):
        ppo = begin(ppo_params(micro_batch_size=micro), folder=str(micro))
        ppo.update(ppo.rollout())
        found.append(weights(ppo))

    for name, weight in found[0].items():
        for other in found[1:]:
            torch.testing.assert_close(weight, other[name], atol=2e-4, rtol=0)


def test_out_of_memory_halves_what_is_learned_from_at_once(begin, monkeypatch, caplog):
    def trained(folder):
        ppo = begin(ppo_params(mini_batch_size=4), folder=folder)
        ppo.update(ppo.rollout())
        return weights(ppo)

    whole = trained("whole")
    backward = Ppo._backward

    def limited(self, rollout, rows, *arguments):
        backward(self, rollout, rows, *arguments)
        if len(rows) > 2:  # its gradients are there already, and must not count
            raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Ppo, "_backward", limited)
    halved = trained("halved")

    assert "Out of memory: going on with 2 rows at once" in caplog.text
    for name, expected in whole.items():
        torch.testing.assert_close(halved[name], expected, atol=2e-4, rtol=0)


# ---------------------------------------------------------------------- its rewards


def test_scores_of_each_kind_and_the_penalty_without_eos(begin):
    def reward(prompts, responses):
        return [2.0 + (i % 2) for i in range(len(responses))]

    found = {}
    for kind in ("raw", "sigmoid", "normalized"):
        ppo = begin(
            ppo_params(reward=kind, missing_eos_penalty=5.0),
            reward,
            folder=kind,
            calibration=Calibration(offset=2.0, temperature=0.5),
        )
        written = ppo.rollout().written
        scores = (
            ppo._scores(written.rewards, written.ended, kind) + 5.0 * ~written.ended
        )
        assert 0 < written.ended.sum() < len(scores)
        found[kind] = scores.tolist()[:2]

    assert found["raw"] == [2.0, 3.0]
    assert found["sigmoid"] == pytest.approx([0.5, 1 / (1 + math.exp(-2))])
    assert found["normalized"] == pytest.approx([-1.0, 1.0], abs=1e-5)


def test_masks_end_with_the_eos_and_texts_before_it(begin):
    written = begin(ppo_params(batch_size=64, mini_batch_size=8)).rollout().written

    end = WORDS.index("<end>")
    lengths = written.mask.sum(1).tolist()
    assert lengths == [len(answer) for answer in written.answers]
    for answer, ended in zip(written.answers, written.ended.tolist()):
        assert ended == (answer[-1] == end)
        assert end not in answer[:-1]
        assert ended or len(answer) == 6
    assert not any("<end>" in text for text in written.texts)
    for name in ("log_probs", "log_ratio", "values", "entropies"):
        assert not (getattr(written, name) * ~written.mask).any()


def test_advantages_are_white_over_real_tokens(begin):
    rollout = begin(ppo_params(batch_size=64, mini_batch_size=8)).rollout()

    real = rollout.advantages[rollout.written.mask]
    assert float(real.mean()) == pytest.approx(0, abs=1e-5)
    assert float(real.var(correction=0)) == pytest.approx(1, abs=1e-4)
    assert not (rollout.advantages * ~rollout.written.mask).any()


def test_long_prompts_are_cut_on_the_left_and_counted(begin):
    long = dialogue(" ".join(["x"] * 30 + ["y"]))
    ppo = begin(ppo_params(), prompts=[*PROMPTS, long])

    assert ppo.cut_prompts == 1
    ids = ppo.prompt_ids[-1]
    assert len(ids) == 16
    text = ppo.encoder.tokenizer.decode(ids)
    assert text.split()[-3:] == ["y", "Answer", ":"]


def test_empty_and_equal_answers_are_counted(begin):
    ppo = begin(ppo_params(steps=1, max_new_tokens=1))
    ppo.eos |= set(range(len(WORDS)))
    ppo._text = lambda answer: ""

    history = ppo.run().history

    assert history[1]["empty_answers"] == 8
    assert history[1]["equal_answers"] == 1
    assert history[1]["reward"] == 0.0
    assert all(bool(w.isfinite().all()) for w in weights(ppo).values())


def test_no_prompt_to_train_on_is_an_error(begin):
    with pytest.raises(DataError, match="leave none to train on; lower ppo.eval_pro"):
        begin(ppo_params(eval_prompts=12))


def test_updates_stop_early_at_the_kl(begin):
    ppo = begin(ppo_params(early_stop_kl=1e-6, ppo_epochs=4, steps=2))

    history = ppo.run().history

    assert history[1]["updates"] < 8


def test_gold_is_logged_and_changes_nothing(begin):
    def gold(prompts, responses):
        return [-1.0 for _ in responses]

    plain = begin(ppo_params())
    one = plain.run()
    logged = begin(ppo_params(), folder="gold", gold=gold)
    other = logged.run()

    assert [row.get("gold_reward") for row in one.history[1:]] == [None] * 3
    assert [row["gold_reward"] for row in other.history[1:]] == [-1.0] * 3
    assert other.best.gold == -1.0
    kept = weights(logged)
    assert all(torch.equal(w, kept[n]) for n, w in weights(plain).items())


def test_the_best_is_the_highest_reward_within_the_bound(begin):
    ppo = begin(ppo_params(steps=6, eval_steps=1, kl_bound=1e-9, kl_coefficient=0.0))

    progress = ppo.run()

    assert progress.last.kl > 1e-3
    assert progress.best.step == 0
    assert [file.name for file in ppo.folder.path.glob("best-*")] == [
        "best-0.safetensors"
    ]


# ----------------------------------------------------------------- it stops, it goes on


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_reward_that_is_no_number_stops_with_the_texts(begin, bad):
    calls = []

    def reward(prompts, responses):
        calls.append(responses)
        rewards = count_of_a(prompts, responses)
        if len(calls) == 3:
            rewards[1] = bad
        return rewards

    ppo = begin(ppo_params(eval_prompts=0, steps=5), reward)
    with pytest.raises(PolicyError, match="step 3: 1 of 8 rewards are not finite") as e:
        ppo.run()

    assert "\n" not in str(e.value)
    mishap = ppo.folder.path / "stopped-at-step-3-rank-0.json"
    (row,) = json.loads(mishap.read_text())["rows"]
    assert row["response"] == calls[2][1]
    assert row["reward"] == str(bad)
    assert ppo.folder.latest.name == "checkpoint-2"
    again = begin(ppo_params(eval_prompts=0, steps=5))
    assert again.progress.step == 2
    again.run()


def test_a_ratio_that_is_no_number_stops_before_the_weights(begin, monkeypatch):
    ppo = begin(ppo_params(eval_prompts=0, steps=3))
    backward, calls = Ppo._backward, []

    def spoil(self, rollout, rows, tokens, sums):
        calls.append(rows)
        if len(calls) == 6:
            rollout.written.log_probs[rows[0], 0] = -math.inf
        backward(self, rollout, rows, tokens, sums)

    monkeypatch.setattr(Ppo, "_backward", spoil)
    with pytest.raises(PolicyError, match="step 2: .*ratio.* not finite"):
        ppo.run()

    assert all(bool(w.isfinite().all()) for w in weights(ppo).values())
    assert ppo.folder.latest.name == "checkpoint-1"
    assert (ppo.folder.path / "stopped-at-step-2-rank-0.json").is_file()


def test_broken_off_and_taken_up_it_ends_the_same(begin, lora):
    whole = begin(ppo_params(lora=lora, steps=5, save_steps=2), folder="whole")
    expected = whole.run()
    calls = []

    def reward(prompts, responses):
        calls.append(1)
        if len(calls) == 6:  # in the fourth step: the checkpoint is of the second
            raise KeyboardInterrupt
        return count_of_a(prompts, responses)

    params = ppo_params(lora=lora, steps=5, save_steps=2)
    with pytest.raises(KeyboardInterrupt):
        begin(params, reward).run()
    torch.randn(7)  # generators of a new process stand elsewhere
    again = begin(params)
    assert again.progress.step == 2

    found = again.run()

    assert found == expected
    kept = weights(again)
    assert all(torch.equal(w, kept[n]) for n, w in weights(whole).items())


_RUN = """
import sys, time
from pathlib import Path
import torch
from transformers import AutoTokenizer
from ser_kedro.policy.actor_critic import ActorCritic
from ser_kedro.policy.ppo import Ppo
from ser_kedro.models.encode import Encoder
from tests.policy.conftest import PROMPTS, count_of_a, ppo_params
model, folder = map(Path, sys.argv[1:])
def reward(prompts, responses):
    if (folder / "checkpoint-2").is_dir():
        time.sleep(600)
    return count_of_a(prompts, responses)
params = ppo_params(steps=5)
torch.manual_seed(0)
Ppo(ActorCritic.load(model, params),
    Encoder(AutoTokenizer.from_pretrained(model), 64),
    PROMPTS, reward, params, folder=folder, seed=0).run()
"""


def test_killed_in_mid_run_it_ends_the_same(begin, words_model, tmp_path):
    whole = begin(ppo_params(steps=5), folder="whole")
    whole.run()
    killed = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-c", _RUN, str(words_model), str(killed)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(["src", "."])},
    ) as child:
        while child.poll() is None and not (killed / "checkpoint-2").is_dir():
            pass
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    again = begin(ppo_params(steps=5))
    assert again.progress.step == 2

    again.run()

    files = (p / "checkpoint-5" / WEIGHTS for p in (whole.folder.path, killed))
    one, other = map(load_file, files)
    assert one.keys() == other.keys()
    assert all(torch.equal(weight, other[name]) for name, weight in one.items())


def test_merged_weights_speak_as_the_policy_does(begin, words_model, lora):
    ppo = begin(ppo_params(lora=lora))
    ppo.run()
    ids = torch.tensor([[1, 3, 5, 6, 4, 5]])
    with torch.no_grad():
        expected = ppo.actor.causal(input_ids=ids).logits

    fresh = ActorCritic.load(words_model, ppo.params, reference=False)
    fresh.load_trainable(load_file(ppo.folder.latest / WEIGHTS))
    with torch.no_grad():
        found = fresh.merged()(input_ids=ids).logits

    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
