"""A copy of the project to run the real command line in."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end import forked

ROOT = Path(__file__).parents[2]
SELF_EVOLVE = ("run", "--env", "test", "--pipelines", "self_evolve")
TIMEOUT = 900  # seconds
_OURS = ("SER_KEDRO_", "KEDRO_")


def _copy(source, target):
    target.mkdir(parents=True)
    for name in ("conf", "src", "notebooks"):
        # What lies in conf/local is the user's own.
        ignored = shutil.ignore_patterns("*.egg-info", "local", ".ipynb_checkpoints")
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name, ignore=ignored)
    (target / "conf" / "local").mkdir()
    for name in ("pyproject.toml", ".telemetry"):
        shutil.copy(source / name, target / name)
    for keep in (source / "data").glob("*/.gitkeep"):
        folder = target / "data" / keep.parent.name
        folder.mkdir(parents=True)
        shutil.copy(keep, folder)
    return target


def environment(cwd, env=None):
    """What a user's shell would have: nothing of ours, whatever tests have set."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(_OURS)}
    here = {"PYTHONPATH": str(Path(cwd) / "src"), "HF_HUB_OFFLINE": "1"}
    return {**kept, **here, **(env or {})}


@pytest.fixture(scope="session")
def shell():
    """The environment variables of a shell in a copy."""
    return environment


@pytest.fixture(scope="session")
def snapshot(tmp_path_factory):
    """The project as it is now: copies of one session do not differ."""
    return _copy(ROOT, tmp_path_factory.mktemp("snapshot") / "project")


@pytest.fixture(scope="session")
def new_project(snapshot, tmp_path_factory):
    """Make a fresh copy of the project, with an empty store."""
    return lambda: _copy(snapshot, tmp_path_factory.mktemp("copy") / "project")


@pytest.fixture
def fresh(new_project):
    """A fresh copy of the project of this test alone."""
    return new_project()


@pytest.fixture(scope="session")
def python():
    """Run Python in a copy; keyword ``input`` is its program."""

    def call(*args, cwd, env=None, **kwargs):
        if args[0] == "-m" and not env and not kwargs:
            _, module, *words = args
            return forked.run(module, words, cwd, environment(cwd), TIMEOUT)
        return subprocess.run(
            [sys.executable, *map(str, args)],
            cwd=cwd,
            env=environment(cwd, env),
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            **kwargs,
        )

    return call


@pytest.fixture(scope="session")
def kedro(python):
    """Run the real ``kedro`` in a copy."""
    return lambda *args, cwd, env=None: python("-m", "kedro", *args, cwd=cwd, env=env)


@pytest.fixture(scope="session")
def start_kedro():
    """Start ``kedro`` in a copy, its output in a file, and do not wait."""

    def start(*args, cwd, output):
        with output.open("w") as stream:
            return subprocess.Popen(
                [sys.executable, "-m", "kedro", *args],
                cwd=cwd,
                env=environment(cwd),
                stdout=stream,
                stderr=subprocess.STDOUT,
            )

    return start


@pytest.fixture(scope="session")
def first_run(new_project, kedro):
    """A copy in which ``self_evolve`` ran, and what it printed; do not write to it."""
    project = new_project()
    done = kedro(*SELF_EVOLVE, cwd=project)
    assert done.returncode == 0, done.stderr
    return project, done


@pytest.fixture(scope="session")
def finished(first_run):
    """A copy in which ``self_evolve`` ran once; do not write to it."""
    return first_run[0]
