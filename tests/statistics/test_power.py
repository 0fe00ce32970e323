from __future__ import annotations

import numpy as np
import pytest

from ser_kedro.statistics.params import StatisticsParams
from ser_kedro.statistics.power import of_one_run

PARAMS = StatisticsParams()


def groups(count, each=1):
    return np.repeat([str(n) for n in range(count)], each)


def test_a_difference_of_that_size_is_found_as_often_as_it_says():
    """By simulation: models that disagree on a fifth of the pairs."""
    count = 400
    wanted = of_one_run(groups(count), PARAMS)
    rng = np.random.default_rng(0)
    better = (0.2 + wanted) / 2
    chances = [0.2 - better, 0.8, better]
    runs = rng.choice([-1, 0, 1], size=(2000, count), p=chances)
    t = runs.mean(1) / (runs.std(1, ddof=1) / np.sqrt(count))
    assert (t > 1.966).mean() == pytest.approx(PARAMS.power, abs=0.04)


def test_fewer_prompts_show_less():
    found = [of_one_run(groups(n), PARAMS) for n in (1, 2, 10, 100, 1000)]
    assert found == sorted(found, reverse=True)
    assert found[0] == 1.0


def test_more_pairs_of_a_prompt_show_more():
    assert of_one_run(groups(50, 4), PARAMS) < of_one_run(groups(50), PARAMS)
