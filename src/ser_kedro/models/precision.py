"""In which precision to compute."""

from __future__ import annotations

import torch

from ser_kedro.models.params import Precision


def uses_bf16(precision: Precision) -> bool:
    """Say whether to compute in bf16; ``auto`` does where the hardware has it."""
    fast = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    return precision == "bf16" or (precision == "auto" and fast)
