"""What a forward pass takes of the memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# What torch says where no class of its own says it.
_WORDS = ("can't allocate memory", "out of memory")


def out_of_memory(error: BaseException) -> bool:
    """Say whether an error is about memory of a GPU or of the host."""
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(words in text for words in _WORDS)
    )


def saved_bytes(model: torch.nn.Module, forward: Callable[[], Tensor]) -> int:
    """Return the bytes that autograd keeps of a forward pass, weights apart.

    Args:
        model: The model, whose own tensors do not count.
        forward: Makes the pass and returns a loss.
    """
    own = {
        each.untyped_storage().data_ptr()
        for each in (*model.parameters(), *model.buffers())
    }
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = forward()  # alive until all is counted, so that no address comes twice
    del loss
    return sum(kept.values())
