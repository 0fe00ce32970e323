"""A run in which every job is in the store already."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time

from benchmarks.common import Result, limited
from benchmarks.pairs import BUILD, ROOT

ROUNDS = 3
COMMAND = ["kedro", "run", "--env", "test", "--pipelines", "self_evolve"]


def measure() -> Result:
    """Run self-evolution in a copy of the project, then again with nothing to do."""
    copy = BUILD / "project"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir(parents=True)
    for name in ("conf", "src"):
        shutil.copytree(
            ROOT / name, copy / name, ignore=shutil.ignore_patterns("local")
        )
    (copy / "conf" / "local").mkdir()
    for name in ("pyproject.toml", ".telemetry"):
        shutil.copy(ROOT / name, copy / name)
    first, *others = [_run(copy) for _ in range(ROUNDS + 1)]
    row = limited(
        "self_evolve with every job in the store",
        "a limit",
        "s",
        others,
        "<= 10",
    )
    return Result(
        [row],
        f"Wall time of `{' '.join(COMMAND)}`, the start of Python and Kedro included;"
        f" the first run, which has everything to do, took {first:.0f} s.",
    )


def _run(folder: os.PathLike[str]) -> float:
    environment = {
        **os.environ,
        "PYTHONPATH": str(BUILD / "project" / "src"),
        "HF_HUB_OFFLINE": "1",
    }
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", *COMMAND],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return time.perf_counter() - start
