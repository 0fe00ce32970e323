"""How the C library treats memory that was freed."""

from __future__ import annotations

import ctypes

# Of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_FREE_AT_LEAST = 2**30
_LARGEST_IN_HEAP = 2**25  # more is not allowed


def keep_freed_memory() -> None:
    """Let this process use memory again that it freed, up to 1 GiB of it.

    By default glibc returns each larger block to the kernel, which clears its pages
    when they are asked for again, as the activations and gradients of a model on a CPU
    are in every step. Does nothing where there is no glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGEST_IN_HEAP)
        mallopt(_TRIM_THRESHOLD, _FREE_AT_LEAST)
