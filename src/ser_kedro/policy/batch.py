"""Prompts and answers as padded tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Prompts and answers as padded tensors, for ``n`` rows.

    Attributes:
        prompts: Token ids, padded on the left, shape ``(n, prompt length)``.
        prompt_mask: True on real tokens, of the same shape.
        answers: Token ids, padded on the right, shape ``(n, answer length)``.
        mask: True on real tokens, the closing eos among them: it is an action too.
            Never derived from the ids, since a policy may write a pad token.
    """

    prompts: Tensor
    prompt_mask: Tensor
    answers: Tensor
    mask: Tensor


def collate(
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    pad: int,
    device: torch.device,
) -> Batch:
    """Pad rows to the longest among them and no further."""
    left, left_mask = _pad(prompts, pad, device, left=True)
    right, right_mask = _pad(answers, pad, device, left=False)
    return Batch(left, left_mask, right, right_mask)


def _pad(
    rows: Sequence[Sequence[int]], pad: int, device: torch.device, *, left: bool
) -> tuple[Tensor, Tensor]:
    width = max(map(len, rows), default=0)
    ids = torch.full((len(rows), width), pad, dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.bool)
    for i, row in enumerate(rows):
        place = slice(width - len(row), width) if left else slice(0, len(row))
        ids[i, place] = torch.tensor(row, dtype=torch.long)
        mask[i, place] = True
    return ids.to(device), mask.to(device)
