import math

import pytest
import torch

from ser_kedro.errors import ModelError
from ser_kedro.training.losses import check_finite, pair_losses

MARGINS = torch.tensor([-2.0, 0.0, 0.5, 3.0])


def logistic(margin):
    return math.log(1 + math.exp(-margin))


def test_logistic_is_bradley_terrys():
    expected = [logistic(m) for m in MARGINS.tolist()]

    assert pair_losses(MARGINS).tolist() == pytest.approx(expected, rel=1e-6)


def test_hinge_asks_for_its_margin():
    losses = pair_losses(MARGINS, kind="hinge", hinge_margin=1.0)

    assert losses.tolist() == [3.0, 1.0, 0.5, 0.0]


def test_hinge_with_another_margin():
    losses = pair_losses(MARGINS, kind="hinge", hinge_margin=4.0)

    assert losses.tolist() == [6.0, 4.0, 3.5, 1.0]


def test_gradient_of_logistic():
    margins = MARGINS.clone().requires_grad_()

    pair_losses(margins).sum().backward()

    assert torch.allclose(margins.grad, -torch.sigmoid(-MARGINS))


def test_gradient_of_hinge():
    margins = MARGINS.clone().requires_grad_()

    pair_losses(margins, kind="hinge").sum().backward()

    assert margins.grad.tolist() == [-1.0, -1.0, -1.0, 0.0]


def test_large_margins_do_not_overflow():
    losses = pair_losses(torch.tensor([-1000.0, 1000.0]))

    assert losses.tolist() == [1000.0, 0.0]


def test_soft_labels_are_an_expectation():
    losses = pair_losses(torch.tensor([2.0]), soft_labels=torch.tensor([0.7]))

    expected = 0.7 * logistic(2.0) + 0.3 * logistic(-2.0)
    assert losses.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("kind", ["logistic", "hinge"])
def test_soft_labels_of_one_change_nothing(kind):
    soft = pair_losses(MARGINS, kind=kind, soft_labels=torch.ones(4))

    assert torch.equal(soft, pair_losses(MARGINS, kind=kind))


def test_a_soft_label_of_zero_swaps_the_pair():
    swapped = pair_losses(MARGINS, soft_labels=torch.zeros(4))

    assert torch.equal(swapped, pair_losses(-MARGINS))


def test_the_best_margin_of_a_soft_label_is_its_logit():
    margins = torch.tensor([math.log(0.7 / 0.3)], requires_grad=True)

    pair_losses(margins, soft_labels=torch.tensor([0.7])).sum().backward()

    assert margins.grad.item() == pytest.approx(0, abs=1e-7)


def test_margins_that_are_asked_for_come_off_the_difference():
    asked = torch.tensor([0.0, 1.0, 0.0, 2.0])

    losses = pair_losses(MARGINS, asked=asked)

    expected = [logistic(m) for m in (MARGINS - asked).tolist()]
    assert losses.tolist() == pytest.approx(expected, rel=1e-6)
    assert (
        pair_losses(MARGINS, asked=0 * asked).tolist() == pair_losses(MARGINS).tolist()
    )


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_ends_the_training(loss):
    said = f"^reward model: the training diverged, its loss is {loss} by step 7; lower"
    with pytest.raises(ModelError, match=said):
        check_finite(loss, "reward model", 7)


def test_any_other_loss_is_returned():
    assert check_finite(1e30, "SFT", 1) == 1e30
