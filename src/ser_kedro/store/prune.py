"""Take out of the store what no kept version needs.

A version is what one run saved of one dataset: ``NAME/TIME/NAME`` below the data of an
environment. Jobs are kept if a kept version names them, or a kept job does.
Measurements of kept jobs stay too, because reports quote them without naming them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ser_kedro.store.job_store import DAMAGED
from ser_kedro.store.layout import RESULT, STORE, finished, store_root

# On its way out: a name with a dot is no finished job, so nobody uses it.
PRUNED = ".pruned"
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d\.\d\d\.\d\d\.\d{3}Z")
_PREFIX = f"{STORE.as_posix()}/"


@dataclass(frozen=True)
class Plan:
    """What is to go.

    Attributes:
        versions: Folders of versions.
        jobs: Folders of jobs.
        kept: Number of jobs that stay.
        since: Seconds since 1970; jobs that are used later stay in any case.
    """

    versions: list[Path]
    jobs: list[Path]
    kept: int
    since: float

    @property
    def size(self) -> int:
        """Bytes that become free, as far as no other file shares them."""
        folders = [*self.versions, *self.jobs]
        files = (path for folder in folders for path in folder.rglob("*"))
        found = (path.lstat() for path in files if path.is_file())
        return sum(status.st_size for status in found if status.st_nlink == 1)


def make_plan(places: Iterable[Path], keep: int, spare_hours: float) -> Plan:
    """Say what can go, and touch nothing.

    Args:
        places: The folders of the data of all environments.
        keep: Versions of each dataset that stay, the newest ones.
        spare_hours: Jobs that a run made or used so recently stay in any case: a run
            may be under way that has saved no version yet.
    """
    gone, stay = [], []
    for versions in _datasets(places):
        stay += versions[-keep:]
        gone += versions[:-keep]
    jobs = {_name(job): job for job in finished()}
    made_of = {name: _made_of(job) for name, job in jobs.items()}
    since = time.time() - 3600 * spare_hours
    wanted = [name for folder in stay for name in _named_in(folder)]
    wanted += [name for name, job in jobs.items() if job.stat().st_mtime >= since]
    needed = _closure(wanted, made_of)
    used = set().union(*made_of.values())
    needed |= {
        name
        for name, inputs in made_of.items()
        if name not in used and inputs and inputs <= needed and _measures(jobs[name])
    }
    old = [job for name, job in jobs.items() if name not in needed]
    left = sorted(store_root().glob(f"*/*{PRUNED}"))
    aside = set(store_root().glob(f"*/*{DAMAGED}*")) - set(left)
    # First what an earlier prune has left: its names must be free again.
    return Plan(gone, [*left, *sorted(aside), *old], len(jobs) - len(old), since)


def carry_out(plan: Plan) -> None:
    """Remove what a plan names. Killed on the way, it can be done again."""
    for folder in plan.versions:
        shutil.rmtree(folder)
    for folder in plan.jobs:
        leaving = folder
        if not folder.name.endswith(PRUNED):
            if "." not in folder.name and folder.stat().st_mtime >= plan.since:
                continue  # a run has used it meanwhile
            shutil.rmtree(folder.with_name(f"{folder.name}.logs"), ignore_errors=True)
            # In one step: half a job must not look like one.
            leaving = folder.with_name(folder.name + PRUNED)
            folder.rename(leaving)
        shutil.rmtree(leaving)


def _datasets(places: Iterable[Path]) -> Iterator[list[Path]]:
    """Yield the versions of each dataset, the newest last."""
    seen = {store_root().resolve()}
    for place in places:
        # Kedro follows links, so their versions count too.
        for folder, names, _ in os.walk(place, followlinks=True):
            if (real := Path(folder).resolve()) in seen:
                names.clear()
                continue
            seen.add(real)
            versions = sorted(name for name in names if _TIME.fullmatch(name))
            names[:] = sorted(set(names) - set(versions))
            if versions:
                yield [Path(folder) / name for name in versions]


def _made_of(job: Path) -> set[str]:
    """Return what a job was made of, as ``STAGE/FINGERPRINT``."""
    return set(_named_in_file(job / RESULT)) - {_name(job)}


def _closure(names: Iterable[str], made_of: Mapping[str, set[str]]) -> set[str]:
    """Return jobs with all that they were made of."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += made_of.get(name, ())
    return found


def _named_in(version: Path) -> Iterator[str]:
    for path in version.rglob("*.json"):
        yield from _named_in_file(path)


def _named_in_file(path: Path) -> list[str]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return []  # no reference can be read of it, by nobody
    return list(_names(value))


def _names(value: Any) -> Iterator[str]:
    """Yield the jobs whose files a value of JSON names."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _names(each)
    elif isinstance(value, str) and value.startswith(_PREFIX):
        parts = value.removeprefix(_PREFIX).split("/")
        yield "/".join(parts[:2])


def _measures(job: Path) -> bool:
    """Say whether a job made tables and documents alone, which are small."""
    outputs = json.loads((job / RESULT).read_text("utf-8"))["outputs"]
    return all(each["kind"] in ("table", "document") for each in outputs.values())


def _name(job: Path) -> str:
    return f"{job.parent.name}/{job.name}"
