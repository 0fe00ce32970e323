"""What this process computes on, for people to read: figures depend on it."""

from __future__ import annotations

import os
import platform
from pathlib import Path

_PROCESSORS = Path("/proc/cpuinfo")  # Linux


def machine() -> str:
    """Return the processor's model and the threads that torch computes with here."""
    count = threads()
    return f"{processor()} with {count} thread{'s' if count > 1 else ''}"


def processor() -> str:
    """Return the model of the processor, or its architecture where that is all."""
    known = _PROCESSORS.read_text("utf-8") if _PROCESSORS.is_file() else ""
    models = [line for line in known.splitlines() if line.startswith("model name")]
    if models:
        return models[0].partition(":")[2].strip()
    return platform.processor() or platform.machine()


def threads() -> int:
    """Return the number of threads as torch chooses it, without its import."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked):
        return int(asked)
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1
