"""The configuration of a trainer of TRL's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from ser_kedro.models.distributed import init_distributed, placement
from ser_kedro.training.params import TrainingParams
from ser_kedro.training.resume import CHECKPOINTS


def training_arguments(
    kind: type[TrainingArguments],
    params: TrainingParams,
    workspace: Path,
    seed: int,
    *,
    bf16: bool,
    **more: Any,
) -> Any:
    """Return TRL's configuration of a training, with its process group initialised.

    Under ZeRO 3 a model that is loaded as long as the configuration lives is taken
    apart while it is read, so that no process ever holds all of it.

    Args:
        kind: ``SFTConfig`` or ``RewardConfig``.
        params: How to train.
        workspace: Where checkpoints go.
        seed: Draws the order of the rows.
        bf16: Compute in bf16.
        more: What else the configuration takes.
    """
    return init_distributed(
        kind(
            **placement(bf16),
            output_dir=str(workspace / CHECKPOINTS),
            learning_rate=params.learning_rate,
            lr_scheduler_type=params.scheduler,
            warmup_steps=params.warmup_steps,
            weight_decay=params.weight_decay,
            gradient_checkpointing=params.gradient_checkpointing,
            save_strategy="steps",
            save_steps=params.save_steps,
            save_total_limit=2,
            logging_steps=10,
            logging_first_step=True,
            logging_nan_inf_filter=False,  # it would show a mean in their place
            disable_tqdm=True,
            dataloader_pin_memory=torch.cuda.is_available(),
            seed=seed,
            max_length=None,
            **more,
        )
    )
