"""Run a job, or find that it was run before."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path
from typing import Any, cast

from ser_kedro.errors import StoreError
from ser_kedro.launch.log_filters import quiet
from ser_kedro.launch.params import INLINE, LauncherParams
from ser_kedro.store import job_store as store
from ser_kedro.store.job import Job, Outputs
from ser_kedro.store.layout import store_root
from ser_kedro.store.references import StoredRef

logger = logging.getLogger(__name__)

# What torch.save says when bytes do not reach the file.
_TORCH_CANNOT_WRITE = "] . unexpected pos "
# Of a place that is of another kind, or of another user.
_IN_THE_WAY = {
    errno.EACCES,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
}


class NotFinished(Exception):
    """A job was to be looked up only, and the store does not have it."""


def run(job: Job[Outputs], launcher: LauncherParams = INLINE) -> Outputs:
    """Return the outputs of a job, running it only if the store has no such result.

    Args:
        job: What to do.
        launcher: How to run it. A job that its ranks cannot share out is done by this
            process under any launcher.

    Returns:
        References to the outputs, by name.

    Raises:
        NotFinished: Under ``lookup``, if the store has no such result.
        StoreError: If the disk is full, or something in the store is in the way.
        LaunchError: If the job failed in processes of its own.
    """
    found = store.find(job)
    if launcher.kind == "lookup":
        if found is None:
            raise NotFinished(job.stage)
        return cast("Outputs", found)
    shown = f"{job.title} [{job.stage} {job.fingerprint[:12]}]"
    if found is not None:
        store.mark_used(job)
        logger.info("%s: reused", shown)
        return cast("Outputs", found)
    try:
        with store.workspace(job) as workspace:
            if (found := store.find(job)) is not None:
                workspace.rmdir()
                return cast("Outputs", found)
            begun = any(workspace.iterdir())
            logger.info("%s: %s", shown, "resumed" if begun else "started")
            outputs = _work(job, workspace, launcher)
            return cast("Outputs", store.commit(job, workspace, outputs))
    except Exception as error:
        if (what := _fault_of_store(error)) is None:
            raise
        raise StoreError(f"{shown}: {what}, nothing finished is lost") from error


def _work(
    job: Job[Any], workspace: Path, launcher: LauncherParams
) -> dict[str, StoredRef]:
    if launcher.kind == "inline" or not job.distributed:
        with quiet(job.libraries):
            return dict(job.work(workspace))
    # Not at the top: the ranks' own jobs need none of it.
    from ser_kedro.launch.process import launch

    return launch(job, workspace, launcher)


def _fault_of_store(error: Exception) -> str | None:
    """Say what is wrong with the store, and what to do, if that is what an error says.

    Args:
        error: Any error of a job.
    """
    # safetensors and torch wrap it in errors of their own.
    said = str(error)
    full = os.strerror(errno.ENOSPC) in said or _TORCH_CANNOT_WRITE in said
    if full or (isinstance(error, OSError) and error.errno == errno.ENOSPC):
        return (
            f"the disk of {store_root()} is full; free some space and run the same"
            " command again"
        )
    if not isinstance(error, OSError) or error.errno not in _IN_THE_WAY:
        return None
    named = str(error.filename)
    if not Path(named).is_relative_to(store_root()):
        return None
    return (
        f"{named} cannot be used ({error.strerror}); remove it or make it writable, and"
        " run the same command again"
    )
