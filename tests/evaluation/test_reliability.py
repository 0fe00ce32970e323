"""A miscalibrated model is reported, and mended by its temperature."""

import numpy as np
import pytest
from scipy.special import expit

from ser_kedro.evaluation.reliability import (
    calibration,
    calibration_error,
    reliability_figure,
)
from ser_kedro.models.fit_calibration import fit

BINS = 10


def planted(n, factor, seed=0):
    """Rewards that are ``factor`` times too sure of themselves."""
    rng = np.random.default_rng(seed)
    margins = 1.5 * rng.normal(size=n)
    prefers_first = rng.random(n) < expit(margins)
    margins = factor * np.where(prefers_first, margins, -margins)
    base = rng.normal(size=n)
    return base + margins, base


def measured(rewards, temperature=1.0):
    return calibration(*rewards, temperature=temperature, bins=BINS)


def test_a_calibrated_model_is_not_reported():
    reported = [measured(planted(2000, 1, seed)).miscalibrated for seed in range(12)]
    assert sum(reported) <= 2  # by chance 1 in 20


@pytest.mark.parametrize("factor", [4.0, 0.25], ids=["too_sure", "not_sure_enough"])
def test_a_miscalibrated_model_is_reported_and_mended(factor):
    validation, test = planted(1000, factor, seed=1), planted(2000, factor, seed=2)
    before = measured(test)
    assert before.miscalibrated and before.ece > 0.08
    temperature = fit(*validation, temperature=True).temperature
    assert temperature == pytest.approx(factor, rel=0.2)
    after = measured(test, temperature)
    assert not after.miscalibrated
    assert after.ece < before.ece / 3
    assert after.brier < before.brier - 0.01


def test_error_by_hand():
    """Four pairs with a confidence of 0.8, of which two are right."""
    margin = np.log(0.8 / 0.2)
    chosen, rejected = (
        np.array([margin, margin, 0, 0]),
        np.array([0, 0, margin, margin]),
    )
    found = measured((chosen, rejected))
    assert found.ece == pytest.approx(0.3)
    assert found.predicted == pytest.approx([0.8])
    assert found.observed == pytest.approx([0.5])
    assert found.pairs == [4]
    assert found.brier == pytest.approx((0.2**2 + 0.8**2) / 2)
    assert calibration_error(chosen - rejected, BINS) == pytest.approx(0.3)


def test_a_model_that_ranks_nothing_is_calibrated():
    found = measured((np.zeros(10), np.zeros(10)))
    assert (found.ece, found.brier, found.miscalibrated) == (0, 0.25, False)


def test_the_figure_has_a_line_a_model():
    figure = reliability_figure({"before": measured(planted(200, 4))})
    assert [line.name for line in figure.data][0] == "calibrated"
    assert figure.data[1].name.startswith("before (ECE 0.")
    assert len(figure.data[1].x) == len(figure.data[1].y) > 3
