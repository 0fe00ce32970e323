"""The same as ``ppo``, with all weights trained instead of adapters."""

from __future__ import annotations

from benchmarks import ppo
from benchmarks.common import Result


def measure() -> Result:
    """Compare both without adapters."""
    return ppo.compare("full", "all weights")
