"""Memory that processes on this machine may use, whatever is free now."""

from __future__ import annotations

import os
import resource
from pathlib import Path

# Where Linux says how much a control group may use (version 2, version 1).
_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def host_memory() -> int:
    """Return the bytes of memory that processes here may use.

    The least of what the machine has, its control group allows, and ``ulimit -v``.
    """
    amounts = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for file in _LIMITS:
        if file.is_file() and (text := file.read_text("ascii").strip()).isdigit():
            amounts.append(int(text))
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        amounts.append(soft)
    return min(amounts)


def gpu_memory() -> int | None:
    """Return the memory in bytes of this machine's first GPU, if it has one."""
    import torch

    if not torch.cuda.is_available():
        return None
    return int(torch.cuda.get_device_properties(0).total_memory)
