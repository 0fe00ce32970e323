"""A policy against its start: by the gold reward, and by a scripted judge."""

import logging

import pytest

from ser_kedro.errors import JudgeError
from ser_kedro.evaluation.params import EvaluationParams
from ser_kedro.policy.answers import ANSWERS
from ser_kedro.policy_evaluation.evaluate import NO_JUDGE, evaluate, headline
from ser_kedro.policy_evaluation.params import PolicyEvaluationParams
from ser_kedro.preferences.demo_world.world import gold_reward
from ser_kedro.preferences.schema import Message
from tests.conftest import WORLD
from tests.policy_evaluation.judge.test_judge import KEY, SECRET, server  # noqa: F401

EVALUATION = EvaluationParams(resamples=100)


@pytest.fixture
def answers(table, train_rows):
    """Make a table of answers to the same six prompts."""

    def make(name, texts):
        rows = [
            {
                "group": row["group"],
                "prompt": row["prompt"],
                "response": text,
                "tokens": len(text.split()),
                "ended": True,
                "kl": 0.5,
            }
            for row, text in zip(train_rows, texts)
        ]
        return table(name, rows, ANSWERS)

    return make


@pytest.fixture
def both(answers, train_rows):
    chosen = [row["chosen"] for row in train_rows[:6]]
    return answers("policy", chosen), answers("sft", [""] * 6)


@pytest.fixture
def judged(answers):
    return answers("policy", ["good"] * 6), answers("sft", ["bad"] * 6)


def judge(url, **changes):
    given = {"model": "m", "base_url": url, "retries": 1, "mode": "both"}
    return PolicyEvaluationParams(judge=given | changes).judge


def test_by_the_gold_reward(both, train_rows):
    found = evaluate(*both, WORLD, None, EVALUATION, {})

    golds = [
        gold_reward(WORLD, [Message(**t) for t in row["prompt"]], row["chosen"])
        for row in train_rows[:6]
    ]
    gold = found["gold"]
    assert gold["policy"]["value"] == pytest.approx(sum(golds) / 6)
    assert gold["sft"]["value"] == 0.0
    assert gold["difference"]["value"] == pytest.approx(sum(golds) / 6)
    assert gold["win"]["value"] == sum(g > 0 for g in golds) / 6
    assert gold["loss"]["value"] == sum(g < 0 for g in golds) / 6
    assert gold["difference"]["low"] < gold["difference"]["value"]
    assert found["answers"]["sft"] == {
        "tokens": 0.0,
        "ended": 1.0,
        "empty": 1.0,
        "kl": 0.5,
    }
    assert found["judge"] is None
    assert headline(found).startswith("gold reward of the SFT model 0.00")


def test_by_a_judge(judged, server, caplog):  # noqa: F811
    credentials = {"api_key": KEY}
    with caplog.at_level(logging.INFO):
        found = evaluate(*judged, None, judge(server.url), EVALUATION, credentials)

    asked = found["judge"]
    assert found["gold"] is None
    for mode in ("absolute", "pairwise"):
        assert (asked[mode]["wins"], asked[mode]["losses"]) == (6, 0)
        assert asked[mode]["win"]["value"] == 1.0
    assert asked["cost"]["calls"] == 2 * 6 + 2 * 6
    assert len(server.requests) == asked["cost"]["calls"]
    assert server.keys == {f"Bearer {SECRET}"}
    assert SECRET not in caplog.text + repr(found)
    cost = next(i for i, m in enumerate(caplog.messages) if "prompt tokens" in m)
    assert "6 won, 0 tied, 0 lost" in caplog.messages[-1]
    assert cost < len(caplog.messages) - 1


def test_without_either_a_line_says_what_to_set(judged, caplog):
    found = evaluate(*judged, None, None, EVALUATION, {})

    assert found["gold"] is found["judge"] is None
    assert found["prompts"] == 6
    assert caplog.messages == [NO_JUDGE]
    assert "policy_evaluation.judge.model" in NO_JUDGE and "\n" not in NO_JUDGE


def test_a_judge_without_a_key(judged, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    with pytest.raises(JudgeError, match="no key; write judge"):
        evaluate(*judged, None, judge("http://127.0.0.1:1/v1"), EVALUATION, {})


def test_off_without_a_model():
    assert PolicyEvaluationParams(judge={"model": None, "mode": "both"}).judge is None
    assert PolicyEvaluationParams().judge is None
