"""Adapters on the last layers alone: what lies below is only ever run forward."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.pytorch_utils import Conv1D

from ser_kedro.errors import ModelError
from ser_kedro.models.params import LoraParams
from ser_kedro.models.zero3 import is_zero3_enabled


def check_last_layers(layers: int, wanted: int, section: str) -> None:
    """Refuse adapters on more layers than a model has.

    Args:
        layers: Of the model.
        wanted: As in ``LoraParams``.
        section: The section of the parameters that says so.

    Raises:
        ModelError: If the model has fewer.
    """
    if wanted > layers:
        raise ModelError(
            f"{section}.lora.last_layers={wanted}: the model has {layers} layers; give"
            f" --params {section}.lora.last_layers={layers}, or null for all"
        )


def layers_of(model: PreTrainedModel) -> list[nn.Module]:
    """Return a model's layers from the first one to the last one.

    Raises:
        ModelError: If they cannot be told apart, as where several share weights.
    """
    found = [m for m in model.modules() if isinstance(m, GradientCheckpointingLayer)]
    config = model.config.get_text_config()
    if len(found) != config.num_hidden_layers:
        raise ModelError(
            f"lora.last_layers: {len(found)} layers were found in a model of type"
            f" {config.model_type}, which says it has {config.num_hidden_layers};"
            " leave last_layers null"
        )
    return found


def linear_names(layer: nn.Module) -> set[str]:
    """Return the names inside a layer of what ``all-linear`` means there."""
    return {
        name
        for name, module in layer.named_modules()
        if isinstance(module, nn.Linear | Conv1D)
    }


def stop_gradients(model: PreTrainedModel, lora: LoraParams | None) -> None:
    """Let no gradient go below the layers that have adapters.

    With gradient checkpointing, trainers have the embeddings' output ask for gradients,
    and would go back through every frozen layer. Here the first layer's input is cut
    off from it, in whatever order trainer and adapters are set up. No layer below the
    last ones then has a graph: it keeps nothing, and nothing of it is computed again.

    Args:
        model: Not yet wrapped for training.
        lora: Of its adapters; without ``last_layers`` nothing changes.
    """
    if lora is None or lora.last_layers is None:
        return
    layers = layers_of(model)
    if lora.last_layers >= len(layers):
        return
    layers[0].register_forward_pre_hook(_detached, with_kwargs=True)
    if is_zero3_enabled():
        layers[-lora.last_layers].register_forward_pre_hook(_with_gradient)


def _detached(
    layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    def cut(value: Any) -> Any:
        return value.detach() if isinstance(value, Tensor) else value

    return tuple(map(cut, args)), {name: cut(value) for name, value in kwargs.items()}


def _with_gradient(layer: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
    # There TRL's trainers choose PyTorch's older kind of checkpointing (reentrant),
    # which trains a layer only if its input asks for a gradient.
    if not torch.is_grad_enabled():
        return None
    hidden, *others = args
    return (hidden.detach().requires_grad_(), *others)
