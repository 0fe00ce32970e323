"""Pairwise losses of reward models, and the end of a training whose loss is none."""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor
from torch.nn import functional

from ser_kedro.errors import ModelError


def pair_losses(
    margins: Tensor,
    *,
    kind: Literal["logistic", "hinge"] = "logistic",
    hinge_margin: float = 1.0,
    soft_labels: Tensor | None = None,
    asked: Tensor | None = None,
) -> Tensor:
    """Return the loss of each pair.

    ``logistic`` is the Bradley-Terry likelihood (the loss of the authors' released
    code), ``hinge`` the paper's equation for reward training (Self-Evolved Reward
    Learning for LLMs, 2024).

    Args:
        margins: ``r_chosen - r_rejected``, shape ``(n,)``.
        kind: Which loss.
        hinge_margin: The margin that the hinge loss asks for.
        soft_labels: Probability in [0, 1] that the chosen response is the better one,
            shape ``(n,)``; ``None`` means 1. The loss is the expectation over it.
        asked: By how much the better response's reward should be above the other's,
            shape ``(n,)``, at least 0 (Llama 2, Touvron et al., 2023, section 3.2.2);
            ``None`` means 0.

    Returns:
        Losses of shape ``(n,)``, not negative.
    """

    def loss(difference: Tensor) -> Tensor:
        if asked is not None:
            difference = difference - asked
        if kind == "hinge":
            return functional.relu(hinge_margin - difference)
        return -functional.logsigmoid(difference)

    if soft_labels is None:
        return loss(margins)
    return soft_labels * loss(margins) + (1 - soft_labels) * loss(-margins)


def check_finite(loss: float, title: str, step: int) -> float:
    """Return a loss of a training, if it is a number.

    Raises:
        ModelError: If it is infinite or NaN: every later step would be too.
    """
    if not math.isfinite(loss):
        raise ModelError(
            f"{title}: the training diverged, its loss is {loss} by step {step}; lower"
            " learning_rate"
        )
    return loss
