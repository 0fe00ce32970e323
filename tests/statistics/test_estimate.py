import numpy as np
import pytest

from ser_kedro.evaluation.params import EvaluationParams
from ser_kedro.statistics.estimate import Estimate, correct, mean_by_group

PARAMS = EvaluationParams(resamples=500)


def names(numbers):
    return np.array([f"g{number}" for number in numbers])


def test_correct_counts_a_tie_as_half():
    chosen, rejected = np.array([1.0, 0.0, 2.0]), np.array([0.0, 1.0, 2.0])
    assert correct(chosen, rejected).tolist() == [1.0, 0.0, 0.5]


def test_mean_is_over_pairs_and_not_over_groups():
    values, groups = np.array([1.0, 1.0, 1.0, 0.0]), names([0, 0, 0, 1])
    assert mean_by_group(values, groups, PARAMS).value == 0.75


def test_interval_holds_the_mean_and_is_repeatable():
    values = np.random.default_rng(0).integers(0, 2, 300).astype(float)
    one = mean_by_group(values, names(range(300)), PARAMS)
    assert one.low < one.value < one.high
    assert one == mean_by_group(values, names(range(300)), PARAMS)


def test_interval_of_single_pairs_is_the_binomial_one():
    values = np.repeat([1.0, 0.0], [700, 300])
    estimate = mean_by_group(values, names(range(1000)), EvaluationParams())
    half = 1.96 * np.sqrt(0.7 * 0.3 / 1000)
    assert estimate.high - estimate.low == pytest.approx(2 * half, rel=0.1)


def test_interval_covers_the_truth_about_as_often_as_it_says():
    rng, covered = np.random.default_rng(1), 0
    for _ in range(200):
        values = (rng.random(150) < 0.7).astype(float)
        estimate = mean_by_group(values, names(range(150)), PARAMS)
        covered += estimate.low <= 0.7 <= estimate.high
    assert 0.89 <= covered / 200 <= 0.99


def test_interval_over_groups_covers_where_the_naive_one_does_not():
    rng, by_group, naive = np.random.default_rng(2), 0, 0
    groups = names(np.repeat(np.arange(60), 5))
    for _ in range(100):
        values = np.repeat((rng.random(60) < 0.7).astype(float), 5)
        estimate = mean_by_group(values, groups, PARAMS)
        by_group += estimate.low <= 0.7 <= estimate.high
        alone = mean_by_group(values, names(range(300)), PARAMS)
        naive += alone.low <= 0.7 <= alone.high
        assert alone.high - alone.low < estimate.high - estimate.low
    assert by_group >= 87
    assert naive < by_group - 15


def test_wider_with_more_confidence():
    values = np.repeat([1.0, 0.0], [70, 30])
    narrow, wide = (
        mean_by_group(
            values, names(range(100)), EvaluationParams(confidence=c, resamples=500)
        )
        for c in (0.5, 0.99)
    )
    assert wide.low < narrow.low < narrow.high < wide.high


def test_equal_values_are_a_point():
    estimate = mean_by_group(np.zeros(3), names(range(3)), PARAMS)
    assert estimate == Estimate(0.0, 0.0, 0.0)


@pytest.mark.parametrize("values", [[1.0], [1.0, 1.0, 1.0], [0.0, 1.0]])
def test_one_prompt_resolves_nothing(values):
    groups = names([0] * len(values))
    estimate = mean_by_group(np.array(values), groups, PARAMS)
    assert estimate.value == np.mean(values)
    assert np.isnan(estimate.low) and np.isnan(estimate.high)
    assert not estimate.excludes_zero


def test_excludes_zero():
    assert Estimate(0.1, 0.05, 0.2).excludes_zero
    assert Estimate(-0.1, -0.2, -0.05).excludes_zero
    assert not Estimate(0.1, -0.05, 0.2).excludes_zero
    assert not Estimate(0.1, 0.0, 0.2).excludes_zero
