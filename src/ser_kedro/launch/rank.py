"""Which of the processes of a launch this one is; inline, the only one."""

from __future__ import annotations

import os
import sys
from typing import Any

# Set for every process of a launch, and for no other. It stands here, and this module
# imports nothing of ours, for jobs import it: what it imports is in their fingerprint.
LAUNCH_VARIABLE = "SER_KEDRO_LAUNCH"
# Set where the ranks are to see no GPU. DeepSpeed, on a CPU too, gives its ranks a
# CUDA_VISIBLE_DEVICES of its own, which the worker takes away again.
NO_GPU_VARIABLE = "SER_KEDRO_NO_GPU"
# Where DeepSpeed's configuration is, under any launcher that has one.
DEEPSPEED_VARIABLE = "SER_KEDRO_DEEPSPEED"


def _distributed() -> Any:
    # A job that never imported torch has no process group, and must not load it here.
    if "torch" not in sys.modules:
        return None
    from torch import distributed

    ready = distributed.is_available() and distributed.is_initialized()
    return distributed if ready else None


def _told(name: str, default: int) -> int:
    # Outside of a launch of ours these variables are somebody else's.
    return int(os.environ.get(name, default)) if is_launched() else default


def is_launched() -> bool:
    """Say whether a launcher of ours started this process."""
    return LAUNCH_VARIABLE in os.environ


def deepspeed_file() -> str | None:
    """Return the path of DeepSpeed's configuration, if the launcher has one."""
    return os.environ.get(DEEPSPEED_VARIABLE) if is_launched() else None


def rank() -> int:
    """Return the number of this process, from 0."""
    distributed = _distributed()
    return distributed.get_rank() if distributed else _told("RANK", 0)


def world_size() -> int:
    """Return how many processes work on the job, on all machines."""
    distributed = _distributed()
    return distributed.get_world_size() if distributed else _told("WORLD_SIZE", 1)


def local_world_size() -> int:
    """Return how many processes of the launch share this machine."""
    return _told("LOCAL_WORLD_SIZE", 1)


def is_main() -> bool:
    """Say whether this process is the one that writes."""
    return rank() == 0


def barrier() -> None:
    """Wait for all ranks; with several, the process group must have begun."""
    if world_size() == 1:
        return
    from torch import distributed

    distributed.barrier()
