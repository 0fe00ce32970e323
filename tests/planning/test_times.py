"""How long a run takes: arithmetic on the speed of a token."""

from dataclasses import replace

import pytest

from ser_kedro.models.params import ModelParams, ScratchParams
from ser_kedro.planning import times
from ser_kedro.planning.text import duration
from ser_kedro.planning.times import StageTime, Times, measure, sample_lengths
from ser_kedro.planning.work import Work
from ser_kedro.policy.ppo_params import PpoParams
from ser_kedro.training.params import RewardParams, SftParams

GIVEN = {
    "learning_rate": 1,
    "scheduler": "constant",
    "max_length": 64,
    "epochs": 2,
    "batch_size": 8,
}
SCRATCH = ModelParams(
    name="tiny",
    scratch=ScratchParams(
        vocab_size=400, hidden_size=16, intermediate_size=32, layers=1, heads=2
    ),
)
PAIRS = {
    "sft_pairs": 100,
    "labeled_pairs": 10,
    "unlabeled_pairs": 1000,
    "test_pairs": 50,
    "ppo_prompts": 20,
}


@pytest.fixture
def seconds(monkeypatch, labeled):
    """Tokens take 1 s to label, 2 s to read for features and 3 s to train on.

    A pair has 10, a row 6.
    """

    def speed(config, use, *, bf16):
        known = {"labelling": 1.0, "scoring": 2.0, "generation": 5.0}
        return known.get(use.task, 3.0)

    def lengths(*arguments):
        return times.Lengths(row=6, pair=10)

    monkeypatch.setattr(times, "uses_bf16", lambda *_: False)
    monkeypatch.setattr(times, "seconds_a_token", speed)
    monkeypatch.setattr(times, "sample_lengths", lengths)
    work = Work(pairs=PAIRS, sample=labeled)

    def found(sft=None, ppo=None, asked=None, **changes):
        reward = RewardParams(**{**GIVEN, **changes})
        given = {"loops": 3, "patience": 2, "work": work, **(asked or {})}
        made = measure(None, SCRATCH, sft, reward, ppo, **given)
        stages = (*made.stages, made.policy)
        return {each.name: (each.low, each.high) for each in stages if each}

    return found


def test_each_stage_is_its_tokens_at_its_speed(seconds):
    assert seconds(SftParams(**GIVEN)) == {
        "sft": (3 * 2 * 200 * 6,) * 2,  # both responses of a pair are rows
        "seed model": (3 * 2 * 10 * 10,) * 2,
        "labelling": (10_000, 3 * 10_000),  # the pool once, or in each loop
        "loops' training": (2 * 3 * 2 * 10 * 10, 3 * 3 * 2 * (10 + 1000) * 10),
        "evaluation": (3 * 50 * 10, 4 * 50 * 10),
    }


def test_a_model_that_is_passed_on_has_no_sft(seconds):
    assert "sft" not in seconds()


def test_voters_train_and_label_as_often(seconds):
    one, three = seconds(), seconds(voters=3)

    for name in ("seed model", "labelling", "loops' training"):
        assert three[name] == tuple(3 * value for value in one[name])


def test_under_a_head_each_pair_is_read_once(seconds):
    read = 2 * 10 * 1060
    assert seconds(trainable="head") == {"features": (read, read)}
    # Each answer of the pool is read once more, beside one to another prompt.
    more = read + 2 * 10 * 2000
    assert seconds(trainable="head", pretrain="answers") == {"features": (more, more)}


def test_pretraining_is_shared_and_its_control_is_not(seconds):
    answers = 3 * 2000 * 10
    assert "pretraining" not in seconds()
    options = {"asked": {"folds": 4}, "voters": 2}
    found = seconds(pretrain="answers", **options)
    assert found["pretraining"] == (answers, answers)
    assert seconds(pretrain="answers", pretrain_epochs=2)["pretraining"][0] == (
        2 * answers
    )
    control = seconds(pretrain="steps", **options)
    # Of all labels and of each fold's, for the seed model and three loops.
    assert control["pretraining"] == (5 * answers, 4 * 5 * answers)


def test_each_fold_has_an_evolution_of_its_own(seconds):
    one, four = seconds(), seconds(asked={"folds": 4})

    # Four folds of three quarters of the labels, and all of them.
    assert four["seed model"][0] == 4 * one["seed model"][0]
    assert four["labelling"] == tuple(5 * value for value in one["labelling"])
    assert four["loops' training"][1] == 3 * 3 * 2 * (4 * 10 + 5 * 1000) * 10
    assert four["evaluation"] == one["evaluation"]


def test_a_committee_reads_everything_once(seconds):
    """Of a frozen model what heads read as well, in the same pass."""
    heads = seconds(trainable="head", asked={"views": True})
    found = seconds(asked={"views": True})

    assert "views" not in heads
    assert found["views"] == heads["features"]


def test_a_policy_writes_reads_and_learns(seconds):
    ppo = PpoParams(
        epochs=1,
        batch_size=8,
        ppo_epochs=2,
        eval_prompts=4,
        eval_steps=2,
        max_new_tokens=16,
    )

    low, high = seconds(ppo=ppo)["policy (PPO)"]

    # 2 steps of 8 answers and 2 evaluations of 4; a response has 4 tokens, a prompt 2.
    assert low == 24 * (4 * 5 + 3 * 6) + 16 * 2 * 6 * 3
    assert high == 24 * (16 * 5 + 3 * 18) + 16 * 2 * 18 * 3
    assert "policy (PPO)" not in seconds(
        ppo=ppo.model_copy(update={"eval_prompts": 20})
    )


def test_the_whole_run_has_the_error_of_the_trial_on_top():
    stage = StageTime("seed model", 100, 200, "fp32", 5)
    made = Times((stage, replace(stage, high=100)))

    assert made.low == pytest.approx(0.7 * 200)
    assert made.high == pytest.approx(1.3 * 300)


def test_lengths_are_those_of_the_tokenizer(labeled):
    found = sample_lengths(SCRATCH, labeled, 256)

    assert found.row < found.pair < 2 * found.row
    assert sample_lengths(SCRATCH, labeled, 16).row <= 16


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "1 s"), (59, "59 s"), (90, "1.5 min"), (754, "13 min"), (5400, "1.5 h")],
)
def test_durations(seconds, words):
    assert duration(seconds) == words
