import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ser_kedro.models.calibration import Calibration, log_losses
from ser_kedro.models.fit_calibration import fit

RNG = np.random.default_rng(0)


def test_probabilities_by_hand():
    calibration = Calibration(offset=1.0, temperature=2.0)

    p = calibration.probabilities(np.array([1.0, 3.0, -1.0]))

    e = 1 / (1 + np.exp(-1))
    assert p == pytest.approx([0.5, e, 1 - e])


@given(st.floats(-1e6, 1e6))
def test_probabilities_stay_in_their_range(reward):
    p = Calibration().probabilities(np.array([reward, -reward]))

    assert ((p >= 0) & (p <= 1)).all()
    assert p.sum() == pytest.approx(1)


def test_float32_rewards_are_computed_in_float64():
    p = Calibration().probabilities(np.zeros(2, np.float32))

    assert p.dtype == np.float64


def test_the_offset_is_the_mean_over_both_responses():
    calibration = fit(np.array([1.0, 3.0]), np.array([0.0, -2.0]), temperature=False)

    assert calibration == Calibration(offset=0.5, temperature=1.0)


def test_the_temperature_is_recovered():
    # Labels drawn at temperature 3: margins say three times more than they should.
    margins = RNG.normal(size=20_000) * 6
    right = RNG.random(20_000) < 1 / (1 + np.exp(-margins / 3))
    signed = np.where(right, margins, -margins)

    calibration = fit(signed / 2 + 7, -signed / 2 + 7, temperature=True)

    assert calibration.temperature == pytest.approx(3, rel=0.06)
    assert calibration.offset == pytest.approx(7)


def test_the_temperature_never_makes_the_log_loss_worse():
    chosen, rejected = RNG.normal(0.3, 2, (2, 200)) * np.array([[1], [-1]])
    calibration = fit(chosen, rejected, temperature=True)

    margins = chosen - rejected
    fitted = log_losses(margins / calibration.temperature).mean()
    assert fitted <= log_losses(margins).mean() + 1e-9


@pytest.mark.parametrize("sign", [1, -1])
def test_the_temperature_of_a_hopeless_model_is_bounded(sign):
    chosen = sign * np.ones(5)

    calibration = fit(chosen, -chosen, temperature=True)

    assert 0.01 <= calibration.temperature <= 100


def test_rewards_that_are_not_finite_leave_the_default():
    bad = np.array([np.nan, 1.0])

    assert fit(bad, np.zeros(2), temperature=True) == Calibration()


def test_log_losses_by_hand():
    losses = log_losses(np.array([0.0, 1000.0, -1000.0]))

    assert losses == pytest.approx([np.log(2), 0.0, 1000.0])


def test_it_is_kept_beside_the_model(tmp_path):
    calibration = Calibration(0.1, 2.5)

    calibration.save(tmp_path)

    assert (tmp_path / "calibration.json").is_file()
    assert Calibration.load(tmp_path) == calibration
