"""Which modules of ours stand behind the fingerprint of each job.

A module that is added here makes stored results stale whenever it changes. Where that
is meant, write the list anew: ``python tests/store/test_code_modules.py``.
"""

import importlib
import json
import pkgutil
from pathlib import Path

import pytest

import ser_kedro
from ser_kedro.store.job import Job, code_modules

GOLDEN = Path(__file__).with_suffix(".json")
# How a job is run, kept, shown or logged must not change what it makes.
NEVER = {
    *("launch.executor", "launch.log_filters", "launch.process", "launch.worker"),
    *("store.job_store", "datasets", "configuration", "hooks", "planning"),
}


def all_jobs():
    """Every job of the package that can be run, by name."""
    for module in pkgutil.walk_packages(ser_kedro.__path__, "ser_kedro."):
        if not module.name.startswith("ser_kedro.__main__"):
            importlib.import_module(module.name)
    found, waiting = {}, [Job]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        ours = kind.__module__.startswith("ser_kedro.")
        if ours and "[" not in kind.__name__ and hasattr(kind, "stage"):
            found[kind.__name__] = kind
    return found


def modules_of(kind):
    known = code_modules(kind.__module__)
    return sorted(name.removeprefix("ser_kedro.") for name in known)


JOBS = all_jobs()


def test_every_job_is_listed():
    assert sorted(JOBS) == sorted(json.loads(GOLDEN.read_text()))


@pytest.mark.parametrize("name", sorted(JOBS))
def test_behind(name):
    found = modules_of(JOBS[name])

    assert found == json.loads(GOLDEN.read_text())[name]
    assert not {each for each in found if each in NEVER}
    assert not {each for each in found if each.partition(".")[0] in NEVER}


if __name__ == "__main__":
    listed = {name: modules_of(kind) for name, kind in sorted(JOBS.items())}
    GOLDEN.write_text(json.dumps(listed, indent=2) + "\n")
