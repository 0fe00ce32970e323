"""How long a model takes for a token, by a trial of a few seconds on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from peft import get_peft_model
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from ser_kedro.models.device import device
from ser_kedro.models.half import halve, hold_bf16, keep_head_exact
from ser_kedro.models.lora import adapter_config
from ser_kedro.models.params import LoraParams
from ser_kedro.models.shortened import shortened

Task = Literal["sft", "reward", "scoring", "labelling", "generation"]

# Layers of the two models that are timed: all layers of a model take as long.
_FEW, _MORE = 1, 3
_TOKENS = 256
# Tokens that are written to each row, and read before.
_NEW, _PROMPT = 8, 32
_REPEATS = 2


@dataclass(frozen=True)
class Use:
    """What a model is used for.

    Attributes:
        task: Training a language model or a reward model; scoring, in bf16 under
            autocast; labelling, in bf16 throughout; or writing answers.
        max_length: Tokens of a row.
        lora: Adapters that are trained.
        checkpointing: Activations are computed again.
        rows: Rows of a forward pass.
    """

    task: Task
    max_length: int
    lora: LoraParams | None = None
    checkpointing: bool = False
    rows: int = 2


def seconds_a_token(config: Any, use: Use, *, bf16: bool) -> float:
    """Time a model of an architecture and return the seconds of a token.

    Two models with random weights and few layers are timed, and the rest is
    arithmetic: layers are alike. No weight is read.

    Args:
        config: A transformers configuration.
        use: What for. A token is one that is read, or written in ``generation``.
        bf16: Compute in bf16.
    """
    if use.lora is None or use.lora.last_layers is None:
        few, a_layer = _line(config, use, bf16)
        return few + a_layer * _layers(config)
    # Layers below the adapters are read as in scoring.
    trained = min(use.lora.last_layers, _layers(config))
    adapters = use.lora.model_copy(update={"last_layers": None})
    few, a_layer = _line(config, replace(use, lora=adapters), bf16)
    _, read = _line(config, Use("scoring", use.max_length), bf16)
    return few + a_layer * trained + read * (_layers(config) - trained)


def _layers(config: Any) -> int:
    return int(config.num_hidden_layers)


def _line(config: Any, use: Use, bf16: bool) -> tuple[float, float]:
    """Return the seconds of a token without layers, and those of one layer."""
    few, more = (_time(config, use, bf16, layers) for layers in (_FEW, _MORE))
    a_layer = max(0.0, (more - few) / (_MORE - _FEW))
    return max(0.0, few - _FEW * a_layer), a_layer


def _time(config: Any, use: Use, bf16: bool, layers: int) -> float:
    with torch.random.fork_rng():
        model = _model(shortened(config, layers), use)
        work, tokens = _work(model, use, bf16)
        work()
        return min(_clocked(work) for _ in range(_REPEATS)) / tokens


def _model(config: Any, use: Use) -> Any:
    writes = use.task in ("sft", "generation")
    if not writes:
        config.num_labels = 1
        config.pad_token_id = config.pad_token_id or 0
    kind = AutoModelForCausalLM if writes else AutoModelForSequenceClassification
    model: Any = kind.from_config(config, dtype=torch.float32)
    if use.checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    task: Literal["CAUSAL_LM", "SEQ_CLS"] = "CAUSAL_LM" if writes else "SEQ_CLS"
    if (adapters := adapter_config(use.lora, task, model)) is not None:
        model = get_peft_model(model, adapters)
    return model.to(device())


def _work(model: Any, use: Use, bf16: bool) -> tuple[Callable[[], None], int]:
    """Return what is timed, and how many tokens it reads or writes."""
    training = use.task in ("sft", "reward")
    length = _PROMPT if use.task == "generation" else min(_TOKENS, use.max_length)
    ids = torch.randint(3, 64, (use.rows, length), device=model.device)
    model.train(training)
    if bf16 and use.task == "labelling":
        keep_head_exact(model)
        halve(model.base_model)
        bf16 = False  # not by autocast
    elif bf16 and not training:
        hold_bf16(model)
    cast = torch.autocast(model.device.type, torch.bfloat16, enabled=bf16)

    def train() -> None:
        labels = {"labels": ids} if use.task == "sft" else {}
        with cast:
            outputs = model(input_ids=ids, use_cache=False, **labels)
        loss = outputs.loss if labels else outputs.logits.float().sum()
        loss.backward()
        model.zero_grad(set_to_none=True)

    @torch.inference_mode()
    def score() -> None:
        with cast:
            model(input_ids=ids, use_cache=False).logits.float().cpu()

    @torch.inference_mode()
    def write() -> None:
        with cast:
            seen = model(input_ids=ids, use_cache=True)
            for _ in range(_NEW):
                token = seen.logits[:, -1:].argmax(-1)
                seen = model(
                    input_ids=token,
                    past_key_values=seen.past_key_values,
                    use_cache=True,
                )

    if training:
        return train, ids.numel()
    return (
        (write, use.rows * _NEW) if use.task == "generation" else (score, ids.numel())
    )


def _clocked(work: Callable[[], None]) -> float:
    """Return the seconds of some work; on a CPU as if nothing else ran beside it."""
    if not torch.cuda.is_available():
        start = time.process_time()
        work()
        return (time.process_time() - start) / torch.get_num_threads()
    torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - start
