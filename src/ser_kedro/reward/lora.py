"""Low-rank adapters: made for training, merged into the weights after it."""

from __future__ import annotations

from typing import Any, Literal

from peft import LoraConfig, PeftModel

from ser_kedro.reward.params import LoraParams


def adapter_config(
    params: LoraParams | None, task: Literal["SEQ_CLS", "CAUSAL_LM"]
) -> LoraConfig | None:
    """Return PEFT's configuration, or ``None`` where every weight is trained.

    ``SEQ_CLS`` makes PEFT train and save the score head; without it each loop would
    label with a random one.
    """
    if params is None:
        return None
    return LoraConfig(
        task_type=task,
        r=params.r,
        lora_alpha=params.alpha,
        lora_dropout=params.dropout,
        target_modules=params.target_modules,
    )


def merged(model: Any) -> Any:
    """Return the plain model, with adapters merged into its weights if it has any."""
    return model.merge_and_unload() if isinstance(model, PeftModel) else model
