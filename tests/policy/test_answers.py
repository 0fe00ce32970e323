import pytest

from ser_kedro.launch.executor import run
from ser_kedro.policy.answers_job import AnswersJob
from ser_kedro.preferences.schema import LABELED
from ser_kedro.store.tables import read_table
from tests.policy.conftest import ppo_params


@pytest.fixture
def answer(sft_model, table, train_rows):
    """Let a model answer; the first two rows are of one group."""
    rows = [dict(row) for row in train_rows[:9]]
    rows[1]["group"] = rows[0]["group"]
    prompts = table("asked", rows, LABELED)

    def make(model=sft_model, **changes):
        job = AnswersJob(
            model=model,
            start=sft_model,
            prompts=prompts,
            **{"count": 100, "batch_size": 3, "seed": 0, **changes},
            params=ppo_params(max_prompt_length=64, max_new_tokens=10),
        )
        return read_table(run(job)["answers"])

    return make


def test_one_prompt_of_each_group_is_answered(answer, train_rows):
    answers = answer()

    asked = [row["prompt"] for row in train_rows[:9]]
    found = answers["prompt"].to_pylist()
    assert len(found) == 8
    assert train_rows[1]["prompt"] not in found
    assert all(prompt in asked for prompt in found)
    assert len(set(answers["group"].to_pylist())) == 8
    assert all(0 < tokens <= 10 for tokens in answers["tokens"].to_pylist())
    for tokens, ended in zip(*(answers[n].to_pylist() for n in ("tokens", "ended"))):
        assert ended or tokens == 10


def test_the_start_is_no_distance_from_itself(answer):
    assert answer()["kl"].to_pylist() == pytest.approx([0.0] * 8, abs=1e-6)


def test_a_trained_policy_answers_the_same_prompts(answer, job):
    policy = run(job(kl_bound=1e6, learning_rate=0.05))["last_policy"]
    before, after = answer(count=5), answer(policy, count=5)

    assert len(after) == 5
    assert after["prompt"] == before["prompt"]
    assert after["response"] != before["response"]
    assert sum(after["kl"].to_pylist()) > 0.01


def test_a_shorter_run_is_the_beginning_of_a_longer_one(job):
    short, long = (
        read_table(run(job(steps=steps, eval_steps=1))["history"]).to_pylist()
        for steps in (2, 3)
    )
    assert long[:3] == short
