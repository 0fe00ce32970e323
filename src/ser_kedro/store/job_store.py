"""The store: one folder per finished job, made visible in one step."""

from __future__ import annotations

import fcntl
import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

from ser_kedro.errors import DamageError, without_secrets
from ser_kedro.store import integrity
from ser_kedro.store.job import Job
from ser_kedro.store.json_io import write_json
from ser_kedro.store.layout import RESULT, project_root, store_root
from ser_kedro.store.references import OUTPUTS, StoredRef

PARTIAL = ".partial"
LOCK = ".lock"
DAMAGED = ".damaged-"

logger = logging.getLogger(__name__)


def folder(job: Job[Any]) -> Path:
    """Return the absolute path of a finished job's folder, there or not."""
    return store_root() / job.stage / job.fingerprint


def find(job: Job[Any]) -> dict[str, StoredRef] | None:
    """Return what a job made, or ``None`` if the store does not hold it, whole."""
    try:
        record = integrity.read_record(folder(job))
    except DamageError:
        return None
    return OUTPUTS.validate_python(record["outputs"])


def mark_used(job: Job[Any]) -> None:
    """Note that a run uses a finished job, so that it is not pruned meanwhile."""
    with suppress(OSError):  # another's store may be read-only
        os.utime(folder(job))


@contextmanager
def workspace(job: Job[Any]) -> Iterator[Path]:
    """Give the job its staging folder, alone: a second process waits for the first.

    The folder outlives a failure, so that the next run takes the work up. A finished
    folder that is damaged is set aside.
    """
    place = folder(job)
    staging = place.with_name(place.name + PARTIAL)
    place.parent.mkdir(parents=True, exist_ok=True)
    with _alone(place.with_name(place.name + LOCK)):
        _set_aside_if_damaged(place)
        staging.mkdir(exist_ok=True)
        _wait_for_ranks(staging)
        yield staging


def _set_aside_if_damaged(place: Path) -> None:
    if not place.exists():
        return
    try:
        integrity.read_record(place)
    except DamageError as error:
        names = (place.with_name(f"{place.name}{DAMAGED}{n}") for n in count(1))
        aside = next(name for name in names if not name.exists())
        place.rename(aside)
        logger.warning("%s; set aside as %s and made again", error, aside.name)


def _wait_for_ranks(staging: Path) -> None:
    # A launched process that was killed leaves ranks that end a few seconds later;
    # their guard holds the folder until then.
    descriptor = os.open(staging, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    finally:
        os.close(descriptor)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    # The lock lies beside the workspace, which the process that finishes takes away.
    while True:
        with path.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _is_at(path, lock.fileno()):
                continue  # the one we waited for removed it; others may hold a new one
            try:
                yield
            finally:
                path.unlink()
            return


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def commit(
    job: Job[Any], staging: Path, outputs: Mapping[str, StoredRef]
) -> dict[str, StoredRef]:
    """Move a finished workspace to its final place; all of it appears, or nothing.

    Args:
        job: The job that finished.
        staging: Its workspace.
        outputs: What it made there.

    Returns:
        The same references, to where the outputs lie now.
    """
    place = folder(job)
    inside = place.relative_to(project_root())
    moved = {
        name: output.model_copy(update={"path": (inside / output.path).as_posix()})
        for name, output in outputs.items()
    }
    record = {
        "stage": job.stage,
        "fingerprint": job.fingerprint,
        # To be read by people; what it holds is in the fingerprint.
        "job": json.loads(without_secrets(job.model_dump_json())),
        "outputs": OUTPUTS.dump_python(moved, mode="json"),
    }
    write_json(staging / RESULT, integrity.seal(record, staging))
    _flush_to_disk(staging)
    staging.rename(place)
    _flush(place.parent)
    return moved


def _flush_to_disk(folder: Path) -> None:
    # The rename must not reach the disk before the content does (a pulled plug).
    for path in [*folder.rglob("*"), folder]:
        _flush(path)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
