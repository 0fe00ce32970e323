"""Benchmarks, scored by real models."""

import json

import numpy as np
import pytest

from ser_kedro.evaluation.benchmarks.job import BENCHMARK_SCORES, ScoreBenchmarkJob
from ser_kedro.evaluation.benchmarks.params import Benchmark
from ser_kedro.evaluation.benchmarks.results import all_results
from ser_kedro.launch.executor import run
from ser_kedro.launch.params import INLINE
from ser_kedro.models.params import Scoring
from ser_kedro.models.scorer import Scorer
from ser_kedro.statistics.params import StatisticsParams
from ser_kedro.store.tables import read_table
from ser_kedro.training.params import RewardParams

PARAMS = StatisticsParams(resamples=100)
REWARD = RewardParams(
    learning_rate=1e-3, epochs=1, batch_size=8, scheduler="constant", max_length=256
)


@pytest.fixture
def tests(tmp_path, test_rows):
    """A file of pairs, and one of RewardBench 2's format, out of the demo world."""
    pairs = [
        {"prompt": r["prompt"][-1]["content"], "chosen": r["chosen"]}
        | {"rejected": r["rejected"], "source": f"s{n % 2}"}
        for n, r in enumerate(test_rows)
    ]
    fours = [
        {"id": str(n), "subset": "Focus", "prompt": one["prompt"]}
        | {"chosen": [one["chosen"]]}
        | {"rejected": [pairs[(n + k) % len(pairs)]["rejected"] for k in range(3)]}
        for n, one in enumerate(pairs)
    ]
    found = []
    for name, rows, kind in (("a", pairs, "pairs"), ("b", fours, "reward_bench_2")):
        file = tmp_path / f"{name}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        found.append(Benchmark(name=name, format=kind, path=str(file)))
    return tuple(found)


def test_rewards_are_those_of_the_scorer(reward_models, tests):
    model = reward_models[0]
    job = ScoreBenchmarkJob(
        model=model, test=tests[1], max_length=256, score_tokens=2048
    )
    scores = run(job)["scores"]
    table = read_table(scores)
    assert table.schema.equals(BENCHMARK_SCORES)
    assert scores.metrics == {"items": 24}
    assert table["item"].to_pylist() == [n for n in range(24) for _ in range(4)]
    assert table["right"].to_pylist() == [True, False, False, False] * 24
    first = json.loads(open(tests[1].path).readline())
    prompt = [{"role": "user", "content": first["prompt"]}]
    texts = [*first["chosen"], *first["rejected"]]
    scoring = Scoring(max_length=256, score_tokens=2048, packing=False)
    scorer = Scorer.load(model.location, scoring)
    alone = scorer.text_rewards([prompt] * 4, texts)
    np.testing.assert_allclose(table["reward"].to_numpy()[:4], alone, atol=1e-4)


def test_several_test_sets_by_both_models(reward_models, tests):
    rows = all_results(*reward_models, tests, PARAMS, REWARD.scoring, INLINE)
    assert [row["name"] for row in rows] == ["a", "b"]
    for row in rows:
        assert row["seed"]["items"] == row["kept"]["items"] == 24
        assert row["seed"]["overall"] != row["kept"]["overall"]
        gained = row["kept"]["overall"] - row["seed"]["overall"]
        assert row["gain"]["value"] == pytest.approx(gained)
    assert set(rows[0]["kept"]["sections"]) == {"s0", "s1"}
    assert set(rows[1]["kept"]["sections"]) == {"Focus"}


def test_one_model_against_itself_gains_nothing(reward_models, tests):
    one = reward_models[0]
    (row,) = all_results(one, one, tests[:1], PARAMS, REWARD.scoring, INLINE)
    assert row["gain"] == {"value": 0, "low": 0, "high": 0}


def test_without_test_sets_nothing_is_done(reward_models):
    assert all_results(*reward_models, (), PARAMS, REWARD.scoring, INLINE) == []
