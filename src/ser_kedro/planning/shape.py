"""What of a model its memory depends on, read off its configuration alone."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Literal

import torch
from peft import get_peft_model
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from ser_kedro.models.lora import adapter_config

Task = Literal["CAUSAL_LM", "SEQ_CLS"]


@dataclass(frozen=True)
class ModelShape:
    """Counts and widths of a model.

    Attributes:
        parameters: All of them; tied ones once.
        trainable: Those that training changes; with LoRA, adapters and head.
        largest_unit: Parameters that ZeRO-3 gathers at once: the largest of a layer
            and the embedding.
        layers: Transformer blocks.
        hidden: Width of the residual stream.
        queries: Heads times their width.
        keys: The same of the keys (or the values) alone.
        intermediate: Width inside the feed-forward part.
        vocabulary: Logits of a token; 0 for a reward model.
        adapted_inputs: Input features of all matrices that carry an adapter, summed.
        adapter_dropout: The adapters drop out some of their input.
        last_layers: Blocks from the end that a backward pass goes through, so that
            they keep activations; ``None``: all.
    """

    parameters: int
    trainable: int
    largest_unit: int
    layers: int
    hidden: int
    queries: int
    keys: int
    intermediate: int
    vocabulary: int
    adapted_inputs: int = 0
    adapter_dropout: bool = False
    last_layers: int | None = None


def shape_of(config: Any, task: Task, lora: Any = None) -> ModelShape:
    """Measure a model on the meta device: no weight is loaded or drawn.

    Args:
        config: A transformers configuration.
        task: A language model, or a reward model (one label).
        lora: ``LoraParams``; ``None`` trains every weight.
    """
    with torch.device("meta"):
        model: Any = _model(config, task)
    whole = _count(model)
    units = [_count(layer) for layer in _layers(model)]
    embedding = model.get_input_embeddings().weight.numel()
    adapted, trainable = 0, whole
    if (adapters := adapter_config(lora, task, model)) is not None:
        model = get_peft_model(model, adapters)
        trainable = _count(model, trained=True)
        adapted = sum(
            module.in_features
            for module in model.modules()
            if hasattr(module, "lora_A") and hasattr(module, "in_features")
        )
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    keys = getattr(config, "num_key_value_heads", None) or heads
    return ModelShape(
        parameters=whole,
        trainable=trainable,
        largest_unit=max([embedding, *units]),
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        queries=heads * width,
        keys=keys * width,
        intermediate=getattr(config, "intermediate_size", None)
        or 4 * config.hidden_size,
        vocabulary=config.vocab_size if task == "CAUSAL_LM" else 0,
        adapted_inputs=adapted,
        adapter_dropout=lora is not None and lora.dropout > 0,
        last_layers=lora and lora.last_layers,
    )


def _model(config: Any, task: Task) -> Any:
    if task == "CAUSAL_LM":
        return AutoModelForCausalLM.from_config(config)
    config = copy.deepcopy(config)
    config.num_labels = 1
    config.problem_type = "regression"
    return AutoModelForSequenceClassification.from_config(config)


def _layers(model: Any) -> list[Any]:
    stacks = [m for m in model.modules() if isinstance(m, torch.nn.ModuleList)]
    return [layer for stack in stacks for layer in stack]


def _count(module: Any, trained: bool = False) -> int:
    return sum(
        parameter.numel()
        for parameter in module.parameters()
        if parameter.requires_grad or not trained
    )
