"""Pairwise losses of reward models."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional


def pair_losses(
    margins: Tensor,
    *,
    kind: Literal["logistic", "hinge"] = "logistic",
    hinge_margin: float = 1.0,
    soft_labels: Tensor | None = None,
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

    Returns:
        Losses of shape ``(n,)``, not negative.
    """

    def loss(difference: Tensor) -> Tensor:
        if kind == "hinge":
            return functional.relu(hinge_margin - difference)
        return -functional.logsigmoid(difference)

    if soft_labels is None:
        return loss(margins)
    return soft_labels * loss(margins) + (1 - soft_labels) * loss(-margins)


def weighted_mean(losses: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean loss of a batch, each pair counted by its weight.

    The sum is divided by the number of pairs, not by the sum of the weights: a row of
    weight 0.5 shall pull half as hard, also when all rows of the batch have it.
    """
    return losses.mean() if weights is None else torch.mean(losses * weights)
