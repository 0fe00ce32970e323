"""What a forward pass takes of the memory."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from ser_kedro.errors import ModelError

T = TypeVar("T")

logger = logging.getLogger(__name__)

# What torch says where no class of its own says it.
_WORDS = ("can't allocate memory", "out of memory")


def out_of_memory(error: BaseException) -> bool:
    """Say whether an error is about memory of a GPU or of the host."""
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(words in text for words in _WORDS)
    )


class Pieces:
    """Rows that are worked on at once, halved whenever the memory does not hold them.

    Attributes:
        most: As many as that; ``None``: all.
    """

    def __init__(self, most: int | None, *, halves: bool, hint: str) -> None:
        """Begin with ``most`` rows.

        Args:
            most: As above.
            halves: ``False``: running out of memory ends the work, as where other
                processes could not follow.
            hint: What is out of memory and what to do, for the error.
        """
        self.most, self._halves, self._hint = most, halves, hint

    def work(self, rows: int, work: Callable[[int], T]) -> T:
        """Do some work on ``rows`` rows, so many at once; it starts anew with half.

        Args:
            rows: All there are.
            work: Is given how many to take at once. What it did before it ran out of
                memory must not count.

        Raises:
            ModelError: If the memory does not hold a single row.
        """
        while True:
            size = max(1, min(self.most or rows, rows))
            try:
                return work(size)
            except Exception as error:
                if not out_of_memory(error):
                    raise
                if size == 1 or not self._halves:
                    raise ModelError(self._hint) from error
            # Outside of the handler, whose traceback keeps the pass alive.
            self.most = size // 2
            logger.warning("Out of memory: going on with %d rows at once", self.most)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


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
