import numpy as np
import pytest

from ser_kedro.self_evolution.params import EvolutionParams
from ser_kedro.self_evolution.progress import (
    Comparison,
    Outcome,
    compare,
    has_collapsed,
    judge,
    judge_committee,
    judge_untrained,
)

PARAMS = EvolutionParams(patience=2, standard_errors=1.0, collapse_standard_errors=2.0)
REWARDS = np.array([0.5, -0.5, 1.0, 0.0])
# Differences with mean 0 and, over 4 pairs, a standard error of exactly 1/√3.
NOISE = np.array([1.0, -1.0, 1.0, -1.0])
ERROR = 1 / np.sqrt(3)


def outcome(gain, *, rewards=REWARDS, without_gain=0, params=PARAMS, noise=NOISE):
    """Judge a model whose log-loss is lower by ``gain``, plus noise."""
    best = np.full(4, 10.0)
    return judge(
        rewards=rewards,
        best_losses=best,
        new_losses=best - gain - noise,
        without_gain=without_gain,
        params=params,
    )


def test_compare_is_paired():
    comparison = compare(np.array([1.0, 2.0, 3.0]), np.array([0.0, 2.0, 1.0]))

    assert comparison.difference == pytest.approx(1.0)
    assert comparison.standard_error == pytest.approx(1 / np.sqrt(3))


def test_one_pair_favours_nobody():
    comparison = compare(np.array([5.0]), np.array([0.0]))

    assert (comparison.difference, comparison.standard_error) == (5.0, np.inf)
    assert not comparison.favours_new(0.1)
    assert not comparison.favours_best(0.1)


def test_equal_models_favour_nobody():
    comparison = compare(np.ones(4), np.ones(4))

    assert not comparison.favours_new(0)
    assert not comparison.favours_best(0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_collapsed_by_a_reward_that_is_not_finite(bad):
    rewards = np.array([0.5, bad, 1.0, 0.0])

    assert outcome(5.0, rewards=rewards) is Outcome.COLLAPSED


def test_collapsed_by_constant_rewards():
    assert has_collapsed(np.full(6, 3.0))
    assert outcome(5.0, rewards=np.full(4, 3.0)) is Outcome.COLLAPSED


def test_collapsed_by_a_significant_loss():
    assert outcome(-2.01 * ERROR) is Outcome.COLLAPSED


def test_a_loss_within_the_noise_is_no_collapse():
    assert outcome(-1.99 * ERROR) is Outcome.NO_GAIN


def test_improved_by_more_than_the_standard_error():
    assert outcome(1.01 * ERROR) is Outcome.IMPROVED


def test_a_gain_within_the_noise_is_no_gain():
    assert outcome(0.99 * ERROR) is Outcome.NO_GAIN


def test_converged_at_the_last_of_patience():
    assert outcome(0.0, without_gain=1) is Outcome.CONVERGED


def test_converged_at_once_when_patience_is_one():
    params = PARAMS.model_copy(update={"patience": 1})

    assert outcome(0.0, params=params) is Outcome.CONVERGED


def test_improved_is_decided_before_converged():
    assert outcome(2 * ERROR, without_gain=1) is Outcome.IMPROVED


def test_collapsed_is_decided_before_converged():
    assert outcome(-3 * ERROR, without_gain=1) is Outcome.COLLAPSED


def test_collapsed_rewards_are_decided_before_improved():
    assert outcome(9.0, rewards=np.zeros(4)) is Outcome.COLLAPSED


@pytest.mark.parametrize(
    ("when", "difference", "expected"),
    [
        ("unless_worse", 1.5, Outcome.IMPROVED),
        ("unless_worse", 0.5, Outcome.NOT_WORSE),
        ("unless_worse", -0.5, Outcome.NOT_WORSE),
        ("unless_worse", -1.5, Outcome.NO_GAIN),
        ("if_better", 1.5, Outcome.IMPROVED),
        ("if_better", 0.5, Outcome.NO_GAIN),
        ("if_better", -0.5, Outcome.NO_GAIN),
    ],
)
def test_a_committee_is_kept_by_evidence_against_it_or_for_it(
    when, difference, expected
):
    params = PARAMS.model_copy(update={"keep_committee": when})
    comparison = Comparison(difference=difference, standard_error=1.0)
    assert judge_committee(comparison, params) is expected


@pytest.mark.parametrize(
    ("rewards", "pool", "outcome"),
    [
        (REWARDS, 1, Outcome.NO_CONFIDENT_PAIRS),
        (REWARDS, 0, Outcome.POOL_EMPTY),
        (np.zeros(4), 1, Outcome.COLLAPSED),
        (np.zeros(4), 0, Outcome.COLLAPSED),
    ],
)
def test_why_a_loop_trained_nothing(rewards, pool, outcome):
    assert judge_untrained(rewards, pool) is outcome
