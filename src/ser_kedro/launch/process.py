"""Run a job in processes of its own, and leave none of them behind."""

from __future__ import annotations

import fcntl
import importlib.util
import logging
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ser_kedro.errors import LaunchError, ParameterError
from ser_kedro.launch import command
from ser_kedro.launch.failure import advice, failed, read_result
from ser_kedro.launch.params import LauncherParams
from ser_kedro.launch.process_tree import GRACE, end_tree
from ser_kedro.launch.tail import LAUNCHER_LOG, Tail, last_lines
from ser_kedro.launch.worker import describe
from ser_kedro.store.job import Job
from ser_kedro.store.json_io import write_json
from ser_kedro.store.layout import project_root
from ser_kedro.store.references import StoredRef

logger = logging.getLogger(__name__)
_PAUSE = 0.2


@dataclass(frozen=True)
class _Launch:
    what: str
    params: LauncherParams
    places: command.Places
    argv: list[str]
    environment: dict[str, str]
    marker: str


def launch(
    job: Job[Any], workspace: Path, params: LauncherParams
) -> dict[str, StoredRef]:
    """Run the job under a launcher and return what rank 0 says was made.

    Args:
        job: What to do.
        workspace: Its staging folder; on a shared disk where there are several nodes.
        params: How to run it.

    Raises:
        LaunchError: If it does not finish.
    """
    begun = _prepare(job, workspace, params)
    code = _run(begun, workspace)
    if code != 0:
        raise failed(begun.what, params, begun.argv, begun.places.logs, code)
    return read_result(begun.what, begun.places.result)


def _prepare(job: Job[Any], workspace: Path, params: LauncherParams) -> _Launch:
    command.check_installed(params)
    places = command.Places(
        project=project_root().absolute(),
        logs=_new_logs(workspace),
        workspace=workspace,
        python=sys.executable,
        host=command.meeting_host(params, os.environ),
        port=params.port or command.free_port(),
        hosts=_hosts(params),
        visible=os.environ.get("CUDA_VISIBLE_DEVICES"),
    )
    marker = uuid.uuid4().hex
    argv = command.argv(params, places)
    paths = dict.fromkeys([_root("ser_kedro"), _root(type(job).__module__)])
    environment = command.environment(params, places, os.environ, marker, paths)
    write_json(places.job, describe(job))
    added = command.added_environment(params, places, marker)
    write_json(places.logs / "launch.json", {"command": argv, "environment": added})
    # Several machines: what ssh does not carry, DeepSpeed reads from this file.
    lines = [f"{name}={value}\n" for name, value in added.items()]
    places.remote_environment.write_text("".join(lines), "utf-8")
    what = f"{job.stage} {job.fingerprint[:12]}"
    return _Launch(what, params, places, argv, environment, marker)


def _new_logs(workspace: Path) -> Path:
    # Beside the workspace: what is in there is kept with the result, and the logs of a
    # failed launch must outlive the next one's success.
    above = workspace.with_name(f"{workspace.stem}.logs")
    logs = above / time.strftime("%Y%m%dT%H%M%S")
    while logs.exists():
        logs = logs.with_name(logs.name + "a")
    logs.mkdir(parents=True)
    return logs


def _hosts(params: LauncherParams) -> tuple[str, ...]:
    if params.hostfile is None:
        return ()
    file = project_root() / params.hostfile
    if not file.is_file():
        raise ParameterError(
            f"launcher={params.name}: there is no hostfile {file}; write one, a line"
            f" such as 'worker-1 slots={params.processes}' for each machine"
        )
    return command.hosts(file.read_text("utf-8"))


def _root(module: str) -> Path:
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None
    depth = module.count(".") + (spec.submodule_search_locations is not None)
    return Path(spec.origin).absolute().parents[depth]


def _run(begun: _Launch, workspace: Path) -> int:
    first = begun.argv[0]
    if shutil.which(first, path=begun.environment.get("PATH")) is None:
        known = advice(f"{first}: not found")
        raise LaunchError(
            f"{begun.what}: launcher={begun.params.name} starts with {first}, which is"
            f" not here; {known or 'install it, or choose another launcher'}",
            command=begun.argv,
        )
    logs = begun.places.logs
    logger.info("%s: launcher=%s, logs in %s", begun.what, begun.params.name, logs)
    tail = Tail(logs)
    with _guarded(begun, workspace) as guard:
        try:
            _wait(guard, tail, begun)
        finally:
            _end(guard, begun.marker)
            _show(tail)
    return guard.returncode


@contextmanager
def _guarded(begun: _Launch, workspace: Path) -> Iterator[subprocess.Popen[bytes]]:
    # The guard holds the workspace as long as a rank may write there: should we be
    # killed, a new run waits until the old ranks are gone (``store.workspace``).
    guard = [sys.executable, "-m", "ser_kedro.launch.guard", str(os.getpid())]
    held = os.open(workspace, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    try:
        with (begun.places.logs / LAUNCHER_LOG).open("wb") as log:
            yield subprocess.Popen(
                [*guard, *begun.argv],
                cwd=begun.places.project,
                env=begun.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=[held],
            )
    finally:
        os.close(held)


def _wait(guard: subprocess.Popen[bytes], tail: Tail, begun: _Launch) -> None:
    started = time.monotonic()
    while guard.poll() is None:
        time.sleep(_PAUSE)
        _show(tail)
        limit = begun.params.timeout
        if limit is not None and time.monotonic() - started > limit:
            lines = last_lines(begun.places.logs / "rank_0.log")
            raise LaunchError(
                f"{begun.what}: ended after {limit:g} s, the timeout of"
                f" launcher={begun.params.name}; raise it, or look for a rank that"
                f" hangs; logs: {begun.places.logs}",
                command=begun.argv,
                lines=lines,
            )


def _end(guard: subprocess.Popen[bytes], marker: str) -> None:
    if guard.poll() is None:
        guard.terminate()
        try:
            guard.wait(3 * GRACE)
        except subprocess.TimeoutExpired:
            guard.kill()
            guard.wait()
    # In case that somebody killed the guard itself.
    end_tree(marker, 0 if guard.returncode == 0 else GRACE)


def _show(tail: Tail) -> None:
    for who, line in tail.read():
        logger.info("[%s] %s", who, line)
