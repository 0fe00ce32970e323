"""Floating-point operations that a training step needs, and what a machine does."""

from __future__ import annotations

from benchmarks.child import clock
from benchmarks.pairs import Size


def forward_flops(size: Size, tokens: int, seen: int) -> int:
    """Return the operations of a forward pass; a multiplication and an addition are 2.

    Matrix products alone: norms, rotations, softmax and the embedding are left out, as
    is the head, which is one row.

    Args:
        size: The model.
        tokens: Tokens that pass through it.
        seen: Pairs of a query and a key that it sees, over all rows.
    """
    h, i = size.hidden, size.intermediate
    projections = 2 * (4 * h * h + 3 * h * i)
    scores = 2 * 2 * h  # queries with keys, and weights with values
    return size.layers * (tokens * projections + seen * scores)


def training_flops(size: Size, tokens: int, seen: int) -> int:
    """Return the same with the backward pass, which costs twice the forward one."""
    return 3 * forward_flops(size, tokens, seen)


def seen_packed(prompt: int, *responses: int) -> int:
    """Return how many keys the tokens of a packed row see, in all.

    A prompt's token sees those before it and itself; a response's also the prompt.
    """
    return _triangle(prompt) + sum(n * prompt + _triangle(n) for n in responses)


def _triangle(n: int) -> int:
    return n * (n + 1) // 2


def matrix_rate(rows: int = 4096, inner: int = 1024, seconds: float = 3.0) -> float:
    """Return the operations a second of a plain product of matrices in fp32."""
    import torch

    a, b = torch.randn(rows, inner), torch.randn(inner, inner)
    out = torch.empty(rows, inner)
    torch.mm(a, b, out=out)
    count, start = 0, clock()
    while (spent := clock() - start) < seconds:
        torch.mm(a, b, out=out)
        count += 1
    return 2 * rows * inner * inner * count / spent
