"""Tokens that a model reads for a pair, padding included, by how batches are made."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from unittest.mock import patch

import numpy as np

from benchmarks import pairs
from benchmarks.flops import seen_packed, training_flops


@cache
def lengths() -> np.ndarray:
    """Return tokens of prompt, chosen and rejected of each pair, shape ``(n, 3)``."""
    rows = pairs.load("train")
    names = ("prompt_ids", "chosen_ids", "rejected_ids")
    return np.array([[len(ids) for ids in rows[name]] for name in names]).T


def tokens_per_pair(max_tokens_per_microbatch: int) -> dict[str, float]:
    """Return padded tokens a pair under four ways to make batches of 16 pairs.

    The first two are TRL's samplers over whole rows; "packed" is random batches of
    packed rows; the last is ``our_tokens``.
    """
    import torch
    from transformers.trainer_pt_utils import LengthGroupedSampler

    sizes = lengths()
    whole = (sizes[:, :1] + sizes[:, 1:]).max(1)
    torch.manual_seed(0)
    shuffled = torch.randperm(len(sizes)).tolist()
    grouped = list(LengthGroupedSampler(pairs.BATCH_SIZE, lengths=whole.tolist()))
    return {
        "random, padded (TRL's default)": padded(whole, shuffled, 2),
        "grouped by length (TRL)": padded(whole, grouped, 2),
        "packed, random": padded(sizes.sum(1), shuffled, 1),
        "packed and grouped (ours)": our_tokens(max_tokens_per_microbatch),
    }


def our_tokens(
    max_tokens_per_microbatch: int,
    megabatch: int | None = None,
    sizes: np.ndarray | None = None,
) -> float:
    """Return padded tokens a pair in the steps that ``PairSteps`` plans.

    Args:
        max_tokens_per_microbatch: Tokens of a forward pass.
        megabatch: Steps that are sorted by length together; ``None``: as they are.
        sizes: As ``lengths`` gives them; ``None``: those of all pairs.
    """
    from ser_kedro.models import pack
    from ser_kedro.training import batches

    costs = (lengths() if sizes is None else sizes).sum(1)
    with patch.object(batches, "MEGABATCH", megabatch or batches.MEGABATCH):
        steps = batches.plan_steps(costs, pairs.BATCH_SIZE, 1, seed=0)
    read = 0
    for step in costs[steps]:
        for batch in pack.cut(step.tolist(), max_tokens_per_microbatch):
            read += int(step[batch].max()) * len(batch)
    return read / steps.size


def padded(
    costs: np.ndarray,
    order: Iterable[int],
    copies: int,
    batch_size: int = pairs.BATCH_SIZE,
) -> float:
    """Return padded tokens a pair of batches in some order.

    Args:
        costs: Tokens of the longest row of each pair.
        order: Of the pairs.
        copies: Rows of a pair.
        batch_size: Pairs that are padded to one length.
    """
    ordered = costs[list(order)]
    batches = [ordered[i : i + batch_size] for i in range(0, len(ordered), batch_size)]
    return copies * sum(b.max() * len(b) for b in batches) / len(ordered)


def needed_flops(size: pairs.Size, sizes: np.ndarray | None = None) -> float:
    """Return the operations that training on a packed pair needs, on average.

    Args:
        size: Of the model.
        sizes: As ``lengths`` gives them; ``None``: those of all pairs.
    """
    sizes = lengths() if sizes is None else sizes
    seen = sum(seen_packed(*map(int, row)) for row in sizes)
    return training_flops(size, int(sizes.sum()), seen) / len(sizes)
