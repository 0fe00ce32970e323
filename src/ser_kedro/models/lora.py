"""Low-rank adapters: made for training, merged into the weights after it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from peft import LoraConfig, PeftModel

from ser_kedro.launch.rank import is_main
from ser_kedro.models.last_layers import check_last_layers, layers_of, linear_names
from ser_kedro.models.params import LoraParams
from ser_kedro.models.zero3 import Zero3Model, is_zero3_enabled


def adapter_config(
    params: LoraParams | None, task: Literal["SEQ_CLS", "CAUSAL_LM"], model: Any
) -> LoraConfig | None:
    """Return PEFT's configuration, or ``None`` where every weight is trained.

    ``SEQ_CLS`` makes PEFT train and save the score head; without it each loop would
    label with a random one.

    Args:
        params: Of the adapters.
        task: What the model is for.
        model: The one to adapt, without adapters.

    Raises:
        ModelError: If the last layers are asked for and cannot be had.
    """
    if params is None:
        return None
    targets: Any = params.target_modules
    adapted = None
    if params.last_layers is not None:
        layers = layers_of(model)
        section = "reward" if task == "SEQ_CLS" else "sft or ppo"
        check_last_layers(len(layers), params.last_layers, section)
        adapted = list(range(len(layers)))[-params.last_layers :]
        if targets == "all-linear":
            # PEFT takes a choice of layers with names alone.
            targets = sorted(set().union(*(linear_names(layers[i]) for i in adapted)))
    return LoraConfig(
        task_type=task,
        r=params.r,
        lora_alpha=params.alpha,
        lora_dropout=params.dropout,
        target_modules=targets,
        layers_to_transform=adapted,
    )


def trained_model(trainer: Any, adapter: Path | None = None) -> Any:
    """Return what a trainer has trained as a plain model, adapters merged.

    Accelerate's autocast is taken off: rewards are computed in the precision of the
    weights, as they will be once the model is loaded from its folder. A model in parts
    stays so; it is merged when it is saved.

    Args:
        trainer: A trainer that has trained.
        adapter: Where rank 0 writes the adapters by themselves; ``None``: nowhere.
    """
    if is_zero3_enabled():
        return Zero3Model(trainer.model_wrapped, adapter)
    model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    if not isinstance(model, PeftModel):
        return model
    if adapter is not None and is_main():
        model.save_pretrained(adapter)
    return model.merge_and_unload()
