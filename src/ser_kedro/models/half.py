"""What computes in half precision, and what does not.

``bf16_linears`` and ``hold_bf16`` make the weights of linear layers in bf16 once, and
not in every forward pass: autocast casts them anew in each pass without gradients, and
to write one token would cost a cast of the whole model. They are the very ones that
autocast would make, so results are the same to the last bit. ``halve`` goes further and
rounds otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


@contextmanager
def bf16_linears(model: Any, *, enabled: bool = True) -> Iterator[None]:
    """Let the fp32 linear layers of a model hold bf16 copies of their weights.

    For passes under autocast and without gradients. The model's own weights are put
    back at the end. Embeddings, norms and tied weights outside linear layers stay.

    Args:
        model: Any module.
        enabled: ``False`` changes nothing.
    """
    layers = _layers(model) if enabled else []
    own = [layer.weight for layer in layers]
    try:
        _halve(layers)
        yield
    finally:
        for layer, weight in zip(layers, own, strict=True):
            layer.weight = weight


class ExactLinear(nn.Linear):
    """A linear layer that computes in the precision of its weights, autocast or not."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return the layer's output, in the precision of its weights."""
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input.to(self.weight.dtype))


def keep_head_exact(model: Any) -> None:
    """Let the head of a reward model compute in the precision of its weights.

    Half precision has three digits: rewards of -81.6 and -81.4 would be one.

    Args:
        model: Its linear layers outside the base model are the head.
    """
    base = set(model.base_model.modules())
    for module in model.modules():
        if type(module) is nn.Linear and module not in base:
            module.__class__ = ExactLinear


def halve(model: Any) -> None:
    """Let a frozen model hold its weights in bf16, and compute in it throughout.

    What runs between its layers is bf16 too, which autocast keeps in fp32: there is
    less to cast, and more is rounded. Buffers stay as they are: the frequencies of
    rotary positions need their digits.

    Args:
        model: Any module; its fp32 weights are replaced.
    """
    for weight in model.parameters():
        if weight.dtype == torch.float32:
            weight.data = weight.data.to(torch.bfloat16)


def hold_bf16(model: Any) -> None:
    """Let a frozen model's linear layers hold their weights in bf16 from now on."""
    _halve(_layers(model))


def _layers(model: Any) -> list[nn.Linear]:
    return [
        layer
        for layer in model.modules()
        if isinstance(layer, nn.Linear) and layer.weight.dtype == torch.float32
    ]


def _halve(layers: list[nn.Linear]) -> None:
    for layer in layers:
        half = layer.weight.detach().to(torch.bfloat16)
        layer.weight = nn.Parameter(half, requires_grad=False)
