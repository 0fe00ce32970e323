"""On which devices a training or a scoring runs, and how they share it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import distributed
from transformers import TrainingArguments

from ser_kedro.launch import rank
from ser_kedro.training.params import Precision, TrainingParams, uses_bf16

CHECKPOINTS = "trainer"
# Seconds that ranks wait for rank 0, which alone encodes the data.
_PATIENCE = 6 * 60 * 60


def training_arguments(
    kind: type[TrainingArguments],
    params: TrainingParams,
    workspace: Path,
    seed: int,
    **more: Any,
) -> Any:
    """Return TRL's configuration of a training; where there are ranks, they meet.

    Under ZeRO 3 a model that is loaded as long as the configuration lives is taken
    apart while it is read, so that no process ever holds all of it.

    Args:
        kind: ``SFTConfig`` or ``RewardConfig``.
        params: How to train.
        workspace: Where checkpoints go.
        seed: Draws the order of the rows.
        more: What else the configuration takes.
    """
    return together(
        kind(
            **placement(params.precision),
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
            disable_tqdm=True,
            dataloader_pin_memory=torch.cuda.is_available(),
            seed=seed,
            max_length=None,
            **more,
        )
    )


def meet(precision: Precision, workspace: Path) -> TrainingArguments | None:
    """Let the ranks of a launch meet without a training; ``None`` inline.

    Models that are loaded as long as the result lives are in parts under ZeRO 3.
    """
    if not rank.is_launched():
        return None
    where = {"output_dir": str(workspace), "per_device_train_batch_size": 1}
    return together(TrainingArguments(**placement(precision), **where))


def placement(precision: Precision) -> dict[str, Any]:
    """Return the arguments that say on which devices, and how they share the work."""
    return {
        "bf16": uses_bf16(precision),
        "use_cpu": not torch.cuda.is_available(),
        "deepspeed": rank.deepspeed_file(),
        "ddp_timeout": _PATIENCE,
        "ddp_find_unused_parameters": False,  # there are none, and looking costs
        "report_to": "none",
    }


def together(arguments: TrainingArguments) -> TrainingArguments:
    """Return the arguments once the ranks have met.

    One process uses one GPU, though it may see more: ``DataParallel``, to which the
    trainer would turn, makes one step of several batches.
    """
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1
    if arguments.deepspeed:
        import deepspeed
        from deepspeed.ops import __compatible_ops__ as kernels

        # On a CPU the ranks have met over gloo, which serves DeepSpeed too. Its own
        # kernel for that would have to be compiled, and a rank that is killed while it
        # compiles leaves a lock behind on which all later ones wait for ever.
        kernels["deepspeed_shm_comm"] = False
        # DeepSpeed must know of the group before it takes a model apart.
        deepspeed.init_distributed(distributed.get_backend(), verbose=False)
    return arguments
