"""How many tokens a forward pass of training takes: as many as the memory holds."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ser_kedro.launch import rank
from ser_kedro.launch.memory import gpu_memory, host_memory
from ser_kedro.models.distributed import least_of_ranks
from ser_kedro.models.memory_use import out_of_memory, saved_bytes

logger = logging.getLogger(__name__)

# Tokens of a pass: more make no device faster, fewer would cut single rows.
MOST = 8192
LEAST = 256
# On a CPU small passes are as fast as large ones (docs/benchmarks.md, Settings), so
# one takes no more than this, whatever there is.
_CPU_PASS = 2 * 2**30
# Share of the memory that is planned with; the rest is for what comes and goes.
_USABLE = 0.8
# What a backward pass needs beside what the forward pass kept.
BACKWARD = 1.25
# Bytes of a trained weight: its gradient, and AdamW's two moments.
_TRAINED = 4 + 8


def tokens_that_fit(
    model: Any, loss: Callable[[int], Tensor], tokens: int, *, adapted: bool = False
) -> int:
    """Return the padded tokens of a pass that the memory holds; the same in all ranks.

    What autograd keeps is measured, on one copy of a row and on two of them, so that
    what does not grow with the tokens (weights in another precision) is not counted as
    if it did.

    Args:
        model: The model as it is trained, adapters in it and frozen parts frozen.
        loss: Makes a forward pass over so many copies of a row.
        tokens: Padded tokens of one copy.
        adapted: The model will get adapters; of its own weights none is trained.

    Returns:
        A power of two between ``LEAST`` and ``MOST``.
    """
    try:
        with torch.random.fork_rng():  # training is to draw as without this dropout
            a_token = BACKWARD * _bytes_of_a_token(model, loss, tokens)
    except Exception as error:
        if not out_of_memory(error):
            raise
        a_token = float("inf")
    room = _room(model, adapted)
    fit = largest_pass(room, a_token)
    fit = least_of_ranks(fit, next(model.parameters()).device)
    logger.info(
        "Forward passes of %d tokens: %.2f MB a token, %.1f GB for a pass",
        fit,
        a_token / 1e6,
        room / 1e9,
    )
    return fit


def largest_pass(room: float, a_token: float) -> int:
    """Return the largest power of two of tokens that fits, within the bounds.

    Args:
        room: Bytes for a pass.
        a_token: Bytes that a token takes.
    """
    count = max(1, int(room / max(a_token, 1e-9)))
    return int(min(MOST, max(LEAST, 2 ** (count.bit_length() - 1))))


def _bytes_of_a_token(model: Any, loss: Callable[[int], Tensor], tokens: int) -> float:
    def grown() -> float:
        one, two = (saved_bytes(model, lambda n=n: loss(n)) for n in (1, 2))  # type: ignore[misc]
        return max(1.0, (two - one) / tokens)

    model.train()
    kept = grown()
    if not getattr(model, "is_activation_checkpointing", False):
        return kept
    model.eval()  # in which nothing is left out to be computed again
    whole = grown()
    model.train()
    layers = model.config.get_text_config().num_hidden_layers
    return kept + whole / layers


def _room(model: Any, adapted: bool) -> float:
    weights = list(model.parameters())
    states = sum(each.numel() * each.element_size() for each in weights)
    if not adapted:
        states += _TRAINED * sum(w.numel() for w in weights if w.requires_grad)
    if (gpu := gpu_memory()) is not None:
        return room_of_a_pass(gpu, states, gpu=True)
    memory = host_memory() / rank.local_world_size()
    return room_of_a_pass(memory, states, gpu=False)


def room_of_a_pass(memory: float, states: float, *, gpu: bool) -> float:
    """Return the bytes that a pass may take.

    Args:
        memory: Bytes of a device, or of a process's share of the host.
        states: Bytes of the weights, their gradients and the optimiser.
        gpu: The device is one.
    """
    room = _USABLE * memory - states
    return room if gpu else min(_CPU_PASS, room)
