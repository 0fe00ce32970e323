"""Devices of a training or a scoring, and its process group."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import distributed
from transformers import TrainingArguments

from ser_kedro.launch import rank
from ser_kedro.models.params import Precision
from ser_kedro.models.precision import bf16_untried

# Seconds that ranks wait for rank 0, which alone encodes the data.
_PATIENCE = 6 * 60 * 60


def init_scoring(precision: Precision, workspace: Path) -> TrainingArguments | None:
    """Initialise the process group of a launch without a training; ``None`` inline.

    Under ZeRO 3, models that are loaded while the result is alive are sharded.
    """
    if not rank.is_launched():
        return None
    where = {"output_dir": str(workspace), "per_device_train_batch_size": 1}
    half = bf16_untried(precision)
    return init_distributed(TrainingArguments(**placement(half), **where))


def placement(bf16: bool) -> dict[str, Any]:
    """Return the arguments that say on which devices, and how ranks talk."""
    return {
        "bf16": bf16,
        "use_cpu": not torch.cuda.is_available(),
        "deepspeed": rank.deepspeed_file(),
        "ddp_timeout": _PATIENCE,
        "ddp_find_unused_parameters": False,  # there are none, and looking costs
        "report_to": "none",
    }


def least_of_ranks(value: int, device: torch.device) -> int:
    """Return the least of what the ranks have, so that all go on alike."""
    if not distributed.is_initialized():
        return value
    shared = torch.tensor(value, device=device)
    distributed.all_reduce(shared, distributed.ReduceOp.MIN)
    return int(shared)


def init_distributed(arguments: TrainingArguments) -> TrainingArguments:
    """Return the arguments, with the process group initialised.

    One process uses one GPU, though it may see more: ``DataParallel``, to which the
    trainer would turn, makes one step of several batches.
    """
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1
    if arguments.deepspeed:
        import deepspeed
        from deepspeed.ops import __compatible_ops__ as kernels

        # On a CPU the ranks use gloo, which serves DeepSpeed too. Its own
        # kernel for that would have to be compiled, and a rank that is killed while it
        # compiles leaves a lock behind on which all later ones wait for ever.
        kernels["deepspeed_shm_comm"] = False
        # DeepSpeed must know of the group before it shards a model.
        deepspeed.init_distributed(distributed.get_backend(), verbose=False)
    return arguments
