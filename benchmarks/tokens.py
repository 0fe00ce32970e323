"""Tokens that a model reads for a pair, padding included, by how batches are made."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from benchmarks import pairs
from benchmarks.flops import seen_packed, training_flops


def lengths() -> np.ndarray:
    """Return tokens of prompt, chosen and rejected of each pair, shape ``(n, 3)``."""
    rows = pairs.load("train")
    names = ("prompt_ids", "chosen_ids", "rejected_ids")
    return np.array([[len(ids) for ids in rows[name]] for name in names]).T


def tokens_per_pair(micro_tokens: int) -> dict[str, float]:
    """Return padded tokens a pair under four ways to make batches of 16 pairs.

    The first two are TRL's samplers over whole rows; "packed" is random batches of
    packed rows; the last is what ``PairSteps`` reads.
    """
    import torch
    from transformers.trainer_pt_utils import LengthGroupedSampler

    from ser_kedro.reward.batches import PairSteps
    from ser_kedro.reward.pack import Packing

    sizes = lengths()
    whole = sizes[:, :1] + sizes[:, 1:]
    packed = sizes.sum(1)
    count, batch = len(sizes), pairs.BATCH_SIZE
    torch.manual_seed(0)
    shuffled = torch.randperm(count).tolist()
    grouped = list(LengthGroupedSampler(batch, lengths=whole.max(1).tolist()))
    steps = PairSteps(
        pairs.load("train"),
        Packing(True, "counted"),
        batch_size=batch,
        epochs=1,
        micro_tokens=micro_tokens,
        pad_token_id=0,
        seed=0,
    )
    read = sum(int(m["input_ids"].numel()) for step in steps for m in step)
    return {
        "random, padded (TRL's default)": _padded(whole.max(1), shuffled, 2),
        "grouped by length (TRL)": _padded(whole.max(1), grouped, 2),
        "packed, random": _padded(packed, shuffled, 1),
        "packed and grouped (ours)": read / steps.steps.size,
    }


def needed_flops(size: pairs.Size) -> float:
    """Return the operations that training on a packed pair needs, on average."""
    sizes = lengths()
    seen = sum(seen_packed(*map(int, row)) for row in sizes)
    return training_flops(size, int(sizes.sum()), seen) / len(sizes)


def _padded(costs: np.ndarray, order: Iterable[int], copies: int) -> float:
    ordered = costs[list(order)]
    batches = [
        ordered[i : i + pairs.BATCH_SIZE]
        for i in range(0, len(ordered), pairs.BATCH_SIZE)
    ]
    return copies * sum(b.max() * len(b) for b in batches) / len(ordered)
