"""Keep the libraries' chatter out of the log."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager

_NOISY = ("transformers", "trl", "accelerate", "peft", "datasets")


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR


@contextmanager
def quiet(libraries: Collection[str] = _NOISY) -> Iterator[None]:
    """Silence progress bars per file, deprecations and notes; errors still show.

    Our own progress bars say how far a long step is.

    Args:
        libraries: What is about to be used; without transformers there is no chatter.
    """
    if "transformers" not in libraries:
        yield
        return
    # DeepSpeed sets its level when it is first imported, which may be in here, and
    # prints to stdout that there is no GPU; a filter stays.
    deepspeed = logging.getLogger("DeepSpeed")
    deepspeed.addFilter(_is_error)
    from transformers.utils import logging as chatter

    loggers = [logging.getLogger(name) for name in _NOISY]
    levels = [logger.level for logger in loggers]
    bars = chatter.is_progress_bar_enabled()
    chatter.disable_progress_bar()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", UserWarning)
            yield
    finally:
        deepspeed.removeFilter(_is_error)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if bars:
            chatter.enable_progress_bar()
