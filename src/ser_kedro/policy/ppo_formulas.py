"""The formulas of PPO, as pure functions of tensors.

Sources. PPO: Schulman et al. 2017 (arXiv 1707.06347). Generalised advantage estimation:
Schulman et al. 2016 (arXiv 1506.02438). PPO on language models, with a KL penalty a
token and its controller: Ziegler et al. 2019 (arXiv 1909.08593). The details that
decide whether it works: Huang et al. 2024 (arXiv 2403.17031).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ser_kedro.policy.ppo_params import PpoParams


def rewards_of_tokens(
    scores: Tensor, log_ratio: Tensor, mask: Tensor, kl_coefficient: float
) -> Tensor:
    """Return the reward of each token: a KL penalty, and the score on the last one.

    Args:
        scores: Reward of each answer, shape ``(n,)``.
        log_ratio: ``log π(token) - log reference(token)``, shape ``(n, t)``, nats.
        mask: True on real tokens, shape ``(n, t)``.
        kl_coefficient: Reward a nat.
    """
    rewards = -kl_coefficient * log_ratio * mask
    last = mask.sum(1) - 1
    rewards[torch.arange(len(mask), device=mask.device), last] += scores
    return rewards


def advantages_and_returns(
    rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float, lam: float
) -> tuple[Tensor, Tensor]:
    """Return generalised advantages (Schulman et al. 2016, eq. 16) and returns.

    Args:
        rewards: Reward of each token, shape ``(n, t)``, zero after an answer's end.
        values: Value of the state before each token, of the same shape.
        mask: True on real tokens. An answer's end, by eos or by length, is the end of
            the episode: the value after it is zero.
        gamma: Discount a token.
        lam: λ.
    """
    advantages = torch.zeros_like(rewards)
    advantage = next_value = torch.zeros_like(rewards[:, 0])
    for t in reversed(range(rewards.shape[1])):
        error = rewards[:, t] + gamma * next_value - values[:, t]
        advantage = (error + gamma * lam * advantage) * mask[:, t]
        next_value = values[:, t] * mask[:, t]
        advantages[:, t] = advantage
    return advantages, (advantages + values) * mask


def policy_losses(
    log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, clip_range: float
) -> tuple[Tensor, Tensor]:
    """Return the clipped loss of each token (Schulman et al. 2017, eq. 7), and ratios.

    All tensors have the same shape.
    """
    ratio = (log_probs - old_log_probs).exp()
    clipped = ratio.clamp(1 - clip_range, 1 + clip_range)
    return torch.maximum(-advantages * ratio, -advantages * clipped), ratio


def value_losses(
    values: Tensor, old_values: Tensor, returns: Tensor, clip_range: float
) -> Tensor:
    """Return half the squared error of each value, or of the clipped one if larger.

    A value may not move further than ``clip_range`` from the rollout's and gain by it.
    """
    clipped = old_values + (values - old_values).clamp(-clip_range, clip_range)
    return 0.5 * torch.maximum((values - returns) ** 2, (clipped - returns) ** 2)


def next_kl_coefficient(
    coefficient: float, kl: float, answers: int, params: PpoParams
) -> float:
    """Return the adaptive controller's next coefficient (Ziegler et al. 2019, 2.2).

    Args:
        coefficient: The one of this rollout.
        kl: Mean nats a sequence in this rollout.
        answers: Answers in this rollout.
        params: Target, horizon and whether the coefficient adapts at all.
    """
    if not params.adaptive_kl:
        return coefficient
    error = min(max(kl / params.kl_target - 1, -0.2), 0.2)
    return coefficient * (1 + error * answers / params.kl_horizon)


def merge_moments(
    moments: tuple[float, float, float], values: Sequence[float]
) -> tuple[float, float, float]:
    """Add values to (count, mean, sum of squared deviations) (Chan et al. 1983)."""
    count, mean, squares = moments
    new = np.asarray(values, np.float64)
    total, shift = count + len(new), float(new.mean()) - mean
    return (
        total,
        mean + shift * len(new) / total,
        squares + float(new.var()) * len(new) + shift**2 * count * len(new) / total,
    )
