"""A length bias is reported as one, and honest length is not."""

import numpy as np
import pytest

from ser_kedro.evaluation.length import length_bias, length_figure
from ser_kedro.evaluation.params import EvaluationParams
from ser_kedro.preferences.demo_world.world import WorldParams, draw_pairs, gold_rewards

PARAMS = EvaluationParams(resamples=500)


@pytest.fixture(scope="module")
def world():
    """Gold rewards, lengths and prompts of the demo world's test pairs."""
    params = WorldParams(pairs=10, test_pairs=800)
    pairs = list(draw_pairs(params, "test"))
    prompts = [pair.prompt for pair in pairs]
    texts = [[pair.chosen for pair in pairs], [pair.rejected for pair in pairs]]
    gold = [gold_rewards(params, prompts, side) for side in texts]
    lengths = tuple(np.array([len(text) for text in side]) for side in texts)
    return gold, lengths, np.array([pair.pair_id for pair in pairs])


def biased(world, weight):
    """A model that sees the gold reward and likes every 100 characters so much."""
    gold, lengths, groups = world
    rng = np.random.default_rng(0)
    rewards = [
        side + weight * size / 100 + 0.5 * rng.normal(size=len(side))
        for side, size in zip(gold, lengths, strict=True)
    ]
    return length_bias(*rewards, lengths, groups, PARAMS)


def test_a_length_bias_is_reported_as_one(world):
    found = biased(world, 3.0)
    assert found.verdict == "towards longer"
    assert found.excess.low > 0.05
    assert found.correlation > 0.5
    assert found.shorter_preferred.high < found.longer_preferred.low


def test_a_bias_towards_short_answers_too(world):
    found = biased(world, -3.0)
    assert found.verdict == "towards shorter"
    assert found.correlation < 0
    assert found.shorter_preferred.low > found.longer_preferred.high


def test_more_bias_is_more_of_it(world):
    excess = [biased(world, weight).excess.value for weight in (0.0, 0.5, 1.0, 3.0)]
    assert excess == sorted(excess)


def test_preferring_length_as_people_do_is_no_bias():
    """Longer answers are better here, and the model knows only what is better."""
    rng = np.random.default_rng(0)
    quality = rng.normal(size=(2, 3000))
    length = (200 + 40 * quality + 40 * rng.normal(size=quality.shape)).astype(int)
    swap = rng.random(3000) > 1 / (1 + np.exp(-2 * (quality[0] - quality[1])))
    for rows in (quality, length):
        rows[:, swap] = rows[::-1, swap]
    noisy = quality + 0.7 * rng.normal(size=quality.shape)
    groups = np.array([f"g{n}" for n in range(3000)])
    found = length_bias(*noisy, tuple(length), groups, PARAMS)
    assert found.people_prefer_longer > 0.6
    assert found.model_prefers_longer > 0.6
    assert abs(found.excess.value) < 0.04


def test_by_hand():
    chosen, rejected = np.array([1.0, 0.0, 1.0, 5.0]), np.array([0.0, 1.0, 0.0, 0.0])
    lengths = np.array([10, 10, 2, 7]), np.array([5, 5, 9, 7])
    groups = np.array(["a", "b", "c", "d"])
    found = length_bias(chosen, rejected, lengths, groups, PARAMS)
    assert found.people_prefer_longer == pytest.approx(2 / 3)
    assert found.model_prefers_longer == pytest.approx(1 / 3)
    assert found.longer_preferred.value == pytest.approx(0.5)
    assert found.shorter_preferred.value == pytest.approx(1.0)
    assert found.as_dict()["bias"] == found.verdict


def test_equal_lengths_say_nothing():
    same = np.array([3, 3])
    groups = np.array(["a", "b"])
    one = np.array([1.0, 2.0])
    assert length_bias(one, one, (same, same), groups, PARAMS) is None


def test_the_figure_shows_every_pair_once(world):
    gold, lengths, _ = world
    figure = length_figure(gold[0] - gold[1], lengths, 10)
    (line,) = figure.data
    assert sum(int(text.split()[0]) for text in line.text) == len(gold[0])
    assert list(line.x) == sorted(line.x)
