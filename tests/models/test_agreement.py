import pytest
import torch

from ser_kedro.models.agreement import Agreement

EXACT = torch.tensor([[0.0, 100.0], [2.0, 300.0], [4.0, 500.0]])  # spreads 2 and 200


def test_distances_are_root_mean_squares_in_spreads_of_each_column():
    found = EXACT + torch.tensor([0.2, 20.0])
    yardstick = EXACT + torch.tensor([0.2, 0.0])

    made = Agreement.of(found, yardstick, EXACT)

    assert made.gap == pytest.approx(0.1)
    assert made.noise == pytest.approx(0.1 / 2**0.5)


@pytest.mark.parametrize(
    ("gap", "noise", "holds"),
    [(0.029, 0.01, True), (0.031, 0.01, False), (9e-6, 0.0, True), (2e-5, 0.0, False)],
)
def test_three_times_the_rounding_is_allowed_and_a_floor(gap, noise, holds):
    assert Agreement(gap, noise).holds is holds


def test_numbers_that_are_none_never_hold():
    broken = EXACT.clone()
    broken[0, 0] = float("nan")

    assert not Agreement.of(broken, EXACT, EXACT).holds


def test_a_reference_without_spread_holds_only_for_equals():
    same = torch.ones(3, 1)

    assert Agreement.of(same, same, same).holds
    assert not Agreement.of(same + 1e-3, same, same).holds
