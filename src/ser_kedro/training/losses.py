"""Pairwise losses of reward models."""

from __future__ import annotations

from typing import Literal

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
