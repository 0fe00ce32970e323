"""On which device a process computes."""

from __future__ import annotations

import torch


def device() -> torch.device:
    """Return this process's GPU, or the CPU where there is none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
