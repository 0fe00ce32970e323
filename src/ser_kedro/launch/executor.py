"""Run a job, or find that it was run before."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, cast

from ser_kedro.errors import StoreError
from ser_kedro.launch.params import INLINE, LauncherParams
from ser_kedro.store import job_store as store
from ser_kedro.store.job import Job, Outputs
from ser_kedro.store.references import StoredRef

logger = logging.getLogger(__name__)


class NotFinished(Exception):
    """A job was to be looked up only, and the store does not have it."""


_looking: ContextVar[list[Job[Any]] | None] = ContextVar("looking", default=None)


@contextmanager
def look_only() -> Iterator[list[Job[Any]]]:
    """Let ``run`` return what is finished and raise ``NotFinished`` for the rest.

    Yields:
        The jobs that were found, as they are.
    """
    found: list[Job[Any]] = []
    token = _looking.set(found)
    try:
        yield found
    finally:
        _looking.reset(token)


def run(job: Job[Outputs], launcher: LauncherParams = INLINE) -> Outputs:
    """Return the outputs of a job, running it only if the store has no such result.

    Args:
        job: What to do.
        launcher: How to run it. A job that its ranks cannot share out is done by this
            process under any launcher.

    Returns:
        References to the outputs, by name.

    Raises:
        NotFinished: Inside ``look_only``, if the store has no such result.
        StoreError: If the disk is full.
        LaunchError: If the job failed in processes of its own.
    """
    if (looking := _looking.get()) is not None:
        if (known_outputs := store.find(job)) is None:
            raise NotFinished(job.stage)
        looking.append(job)
        return cast("Outputs", known_outputs)
    short = f"{job.stage} {job.fingerprint[:12]}"
    if (found := store.find(job)) is not None:
        logger.info("%s: reused", short)
        return cast("Outputs", found)
    try:
        with store.workspace(job) as workspace:
            if (found := store.find(job)) is not None:
                workspace.rmdir()
                return cast("Outputs", found)
            begun = any(workspace.iterdir())
            logger.info("%s: %s", short, "taken up again" if begun else "started")
            outputs = _work(job, workspace, launcher)
            return cast("Outputs", store.commit(job, workspace, outputs))
    except Exception as error:
        if not _is_full_disk(error):
            raise
        raise StoreError(
            f"{short}: the disk of {store.store_root()} is full; free some space and"
            " run the same command again, nothing finished is lost"
        ) from error


def _work(
    job: Job[Any], workspace: Path, launcher: LauncherParams
) -> dict[str, StoredRef]:
    if launcher.kind == "inline" or not job.distributed:
        return dict(job.work(workspace))
    # Not at the top: the ranks' own jobs need none of it.
    from ser_kedro.launch.process import launch

    return launch(job, workspace, launcher)


def _is_full_disk(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno == errno.ENOSPC
    # safetensors and torch wrap it in errors of their own.
    return os.strerror(errno.ENOSPC) in str(error)
