"""Run a job, or find that it was run before."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from ser_kedro.errors import ParameterError, StoreError
from ser_kedro.launch import store
from ser_kedro.launch.job import Job, Output
from ser_kedro.launch.reference import Reference

logger = logging.getLogger(__name__)

Launcher = Callable[[Job, Path], dict[str, Output]]


def inline(job: Job, workspace: Path) -> dict[str, Output]:
    """Run the job in this process."""
    return job.work(workspace)


class NotFinished(Exception):
    """A job was to be looked up only, and the store does not have it."""


_looking: ContextVar[list[Job] | None] = ContextVar("looking", default=None)


@contextmanager
def look_only() -> Iterator[list[Job]]:
    """Let ``run`` return what is finished and raise ``NotFinished`` for the rest.

    Yields:
        The jobs that were found, as they are.
    """
    found: list[Job] = []
    token = _looking.set(found)
    try:
        yield found
    finally:
        _looking.reset(token)


LAUNCHERS: dict[str, Launcher] = {"inline": inline}


def run(job: Job, launcher: str = "inline") -> dict[str, Reference]:
    """Return the outputs of a job, running it only if the store has no such result.

    Args:
        job: What to do.
        launcher: How to run it; one of ``LAUNCHERS``.

    Returns:
        References to the outputs, by name.

    Raises:
        NotFinished: Inside ``look_only``, if the store has no such result.
        ParameterError: If there is no such launcher.
        StoreError: If the disk is full.
    """
    if (looking := _looking.get()) is not None:
        if (known_outputs := store.find(job)) is None:
            raise NotFinished(job.stage)
        looking.append(job)
        return known_outputs
    if launcher not in LAUNCHERS:
        known = ", ".join(LAUNCHERS)
        raise ParameterError(f"launcher={launcher}: unknown; choose one of {known}")
    short = f"{job.stage} {job.fingerprint[:12]}"
    if (found := store.find(job)) is not None:
        logger.info("%s: reused", short)
        return found
    try:
        with store.workspace(job) as workspace:
            if (found := store.find(job)) is not None:
                workspace.rmdir()
                return found
            begun = any(workspace.iterdir())
            logger.info("%s: %s", short, "taken up again" if begun else "started")
            return store.commit(job, workspace, LAUNCHERS[launcher](job, workspace))
    except Exception as error:
        if not _is_full_disk(error):
            raise
        raise StoreError(
            f"{short}: the disk of {store.store_root()} is full; free some space and"
            " run the same command again, nothing finished is lost"
        ) from error


def _is_full_disk(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno == errno.ENOSPC
    # safetensors and torch wrap it in errors of their own.
    return os.strerror(errno.ENOSPC) in str(error)
