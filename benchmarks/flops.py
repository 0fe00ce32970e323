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
    kv = h * (size.kv_heads or size.heads) // size.heads
    projections = 2 * (2 * h * h + 2 * h * kv + 3 * h * i)
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


def matrix_rate(
    rows: int = 4096, inner: int = 1024, seconds: float = 3.0, kind: str = "fp32"
) -> float:
    """Return the operations a second of a plain product of matrices.

    Args:
        rows: Of the first matrix, which has ``inner`` columns.
        inner: Rows and columns of the second.
        seconds: How long to measure.
        kind: ``fp32`` or ``bf16``.
    """
    import torch

    dtype = torch.bfloat16 if kind == "bf16" else torch.float32
    a, b = torch.randn(rows, inner).to(dtype), torch.randn(inner, inner).to(dtype)
    out = torch.empty(rows, inner, dtype=dtype)
    torch.mm(a, b, out=out)
    count, start = 0, clock()
    while (spent := clock() - start) < seconds:
        torch.mm(a, b, out=out)
        count += 1
    return 2 * rows * inner * inner * count / spent
