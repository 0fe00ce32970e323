import numpy as np
import pytest

from ser_kedro.policy_evaluation.overoptimisation import (
    figure,
    find_overoptimisation,
    moving_mean,
)

STEPS = list(range(0, 200, 5))
PROXY = [step / 200 for step in STEPS]


def noisy(values, deviation=0.05):
    return values + np.random.default_rng(0).normal(0, deviation, len(values))


def test_the_point_where_gold_turns_while_proxy_rises():
    gold = noisy([1 - ((step - 80) / 80) ** 2 for step in STEPS])

    point = find_overoptimisation(STEPS, PROXY, gold)

    assert point.found
    assert 65 <= point.step <= 95
    assert point.gold_at_peak == pytest.approx(1, abs=0.1)
    assert point.gold_at_end < 0
    assert point.proxy_at_end > point.proxy_at_peak


@pytest.mark.parametrize(
    ("proxy", "gold"),
    [
        (PROXY, noisy(PROXY)),  # both rise
        (PROXY, noisy([0.5] * len(STEPS))),  # gold is noise
        (PROXY[::-1], noisy(PROXY[::-1])),  # both fall: the training went wrong
    ],
)
def test_nothing_is_found_where_there_is_nothing(proxy, gold):
    assert not find_overoptimisation(STEPS, proxy, gold).found


def test_a_run_may_be_too_short():
    with pytest.raises(ValueError, match="3 evaluations, fewer than"):
        find_overoptimisation([1, 2, 3], [1, 2, 3], [1, 2, 3])


def test_moving_mean():
    assert moving_mean([1, 2, 3, 7], 3) == pytest.approx([2, 4])


def test_the_figure_shows_both_and_the_point():
    gold = noisy([1 - ((step - 80) / 80) ** 2 for step in STEPS])
    point = find_overoptimisation(STEPS, PROXY, gold)

    drawn = figure(STEPS, PROXY, gold, point)

    names = {trace.name for trace in drawn.data if trace.mode == "lines"}
    assert names == {"proxy reward (maximised)", "gold reward (the truth)"}
    assert len(drawn.data[1].x) == len(drawn.data[1].y) == len(STEPS) - 4
    assert [shape.x0 for shape in drawn.layout.shapes] == [point.step]
    assert drawn.layout.annotations[0].text == "over-optimised from here"
