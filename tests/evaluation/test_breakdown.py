import numpy as np
import pytest

from ser_kedro.evaluation.breakdown import by_difficulty, by_source
from ser_kedro.evaluation.params import EvaluationParams

PARAMS = EvaluationParams(resamples=200, bins=4)


def test_accuracy_of_each_source():
    right = np.array([1.0, 0.0, 1.0, 1.0])
    sources = np.array(["b", "b", "a", "a"])
    groups = np.array(["1", "2", "3", "4"])
    a, b = by_source(right, sources, groups, PARAMS)
    assert (a["source"], a["pairs"], a["accuracy"]) == ("a", 2, 1.0)
    assert (b["source"], b["pairs"], b["accuracy"]) == ("b", 2, 0.5)


def test_hard_pairs_are_found_to_be_hard():
    rng = np.random.default_rng(0)
    ease = rng.exponential(size=2000)
    right = (rng.random(2000) < 0.5 + 0.5 * np.tanh(ease)).astype(float)
    groups = np.array([f"g{n}" for n in range(2000)])
    rows = by_difficulty(right, ease, groups, PARAMS)
    accuracies = [row["accuracy"] for row in rows]
    assert accuracies == sorted(accuracies)
    assert rows[0]["high"] < rows[-1]["low"]
    assert [row["pairs"] for row in rows] == pytest.approx([500] * 4, abs=1)
    assert rows[0]["ease_to"] <= rows[1]["ease_from"]


def test_equal_ease_is_never_parted():
    ease = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 1.0])
    groups = np.array(list("abcdef"))
    rows = by_difficulty(np.ones(6), ease, groups, PARAMS)
    assert sum(row["pairs"] for row in rows) == 6
    spans = [(row["ease_from"], row["ease_to"]) for row in rows]
    assert spans == [(0.0, 0.0), (1.0, 1.0)]


def test_one_ease_for_all_is_one_bin():
    rows = by_difficulty(np.ones(3), np.ones(3), np.array(list("abc")), PARAMS)
    assert [row["pairs"] for row in rows] == [3]
