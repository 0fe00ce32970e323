"""One rank: ``python -m ser_kedro.launch.worker JOB.json RESULT.json WORKSPACE``."""

from __future__ import annotations

import faulthandler
import importlib
import logging
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from ser_kedro.errors import LaunchError, SerKedroError
from ser_kedro.launch.log_filters import quiet
from ser_kedro.launch.rank import NO_GPU_VARIABLE, is_main, rank
from ser_kedro.store.job import Job
from ser_kedro.store.json_io import read_json, write_json
from ser_kedro.store.references import OUTPUTS


def describe(job: Job[Any]) -> dict[str, Any]:
    """Return a job as JSON that ``load_job`` understands."""
    kind = type(job)
    return {
        "module": kind.__module__,
        "name": kind.__qualname__,
        "fingerprint": job.fingerprint,
        "job": job.model_dump(mode="json"),
    }


def load_job(path: Path) -> Job[Any]:
    """Return the job of a file; it must be here what it is there.

    Raises:
        LaunchError: If its fingerprint differs: other code or other libraries.
    """
    described = read_json(path)
    kind: Any = importlib.import_module(described["module"])
    for name in described["name"].split("."):
        kind = getattr(kind, name)
    job: Job[Any] = kind.model_validate(described["job"])
    if job.fingerprint != described["fingerprint"]:
        raise LaunchError(
            f"{described['name']}: this rank would make something else than was asked"
            " for; give all machines the same code and the same libraries"
        )
    return job


def work(job_file: Path, result_file: Path, workspace: Path) -> None:
    """Do the job with all ranks; rank 0 writes what was made."""
    job = load_job(job_file)
    with quiet(job.libraries):
        outputs = job.work(workspace)
    main = is_main()
    _leave_group()
    if main:
        write_json(result_file, {"outputs": OUTPUTS.dump_python(outputs, mode="json")})


def _leave_group() -> None:
    if "torch" not in sys.modules:
        return
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def _write_to(log: Path) -> None:
    # The descriptors themselves, so that native code and children write there too. A
    # file needs no reader: nothing is lost when this process or the reader dies.
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    os.close(descriptor)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    faulthandler.enable()
    logging.basicConfig(
        level=logging.INFO if is_main() else logging.WARNING, format="%(message)s"
    )


def main(arguments: list[str]) -> None:
    """Run one rank; an error goes to a file of its own beside the result."""
    # DeepSpeed puts --local_rank first; the environment says it as well.
    job, result, workspace = map(Path, arguments[-3:])
    _write_to(result.with_name(f"rank_{rank()}.log"))
    if NO_GPU_VARIABLE in os.environ:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    try:
        work(job, result, workspace)
    except BaseException as error:
        traceback.print_exc()
        record = {
            "rank": rank(),
            "type": type(error).__name__,
            "message": str(error),
            "user": isinstance(error, SerKedroError),
            "time": time.time(),
        }
        write_json(result.with_name(f"error_{rank()}.json"), record)
        # Not sys.exit: leaving a broken process group may wait for ever.
        os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
