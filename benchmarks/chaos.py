"""Disturb real runs, start them again, and compare: nothing may be lost or differ.

Usage: python -m benchmarks.chaos [kills] [ranks] [disk] [clock] [--kills 30] [--seed 0]

Works in copies of the project, in the environment ``test``:

- ``kills``: a run of ``self_evolve,ppo,acquisition`` is killed (SIGKILL) after a random
  time and started again until it ends; then the next, until there were enough kills.
- ``ranks``: the same of ``self_evolve`` in two processes, of which one is killed, or
  what has started them, or the run itself.
- ``disk``: the run begins on a disk that is too small, which then grows (Linux, root).
- ``clock``: the run is killed, and the clock is set back by a day (needs ``faketime``).

Each run that ended is compared with one that nobody disturbed: the table, and each file
of each job. Then every version of every dataset is loaded. Prints tables for
docs/reliability.md, and exits with 1 if anything differs.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.reliability import finish, new_project, start

RUN = ("run", "--env", "test", "--pipelines", "self_evolve,ppo,acquisition")
EVOLVE = ("run", "--env", "test", "--pipelines", "self_evolve")
RANKS = (*EVOLVE, "--params", "launcher=cpu2_ddp")
SMALL, LARGE = "3m", "2g"  # a store in the environment ``test`` takes more than SMALL
# Prints the versions that load; ends with a traceback at the first that does not.
LOAD_ALL = """
from pathlib import Path
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.io.core import Version
bootstrap_project(Path.cwd())
loaded = 0
with KedroSession.create(env="test") as session:
    catalog = session.load_context().catalog
    for name in list(catalog.keys()):
        data = catalog.get(name)
        place = getattr(data, "_filepath", None)
        if getattr(data, "_version", None) is None or not Path(str(place)).is_dir():
            continue
        for version in sorted(Path(str(place)).iterdir()):
            data._version = Version(version.name, None)
            data.release()
            data.load()
            loaded += 1
print(loaded)
"""


@dataclass(frozen=True)
class Ended:
    """What a run came to.

    Attributes:
        table: What it printed.
        files: Digest of each file of each finished job, by its place in the store.
        left: What begun work has left in the store.
        verified: Exit code of ``ser-kedro verify``.
        versions: Versions of datasets that load; -1 where one does not.
    """

    table: str
    files: dict[str, str]
    left: list[str]
    verified: int
    versions: int

    @classmethod
    def of(cls, project: Path, table: str) -> Ended:
        """Look at a project in which a run has ended."""
        store = project / "data" / "store"
        found = [path for path in store.glob("*/*") if "." in path.name]
        verified, _, _ = finish(start(project, "verify", module="ser_kedro"))
        return cls(
            table,
            files(project),
            [str(p.relative_to(store)) for p in found if p.suffix != ".json"],
            verified,
            loadable(project),
        )

    def row(self, expected: Ended) -> tuple[str, bool]:
        """Return cells that compare it with another, and whether all is well."""
        differ = {
            name
            for name in expected.files.keys() | self.files.keys()
            if expected.files.get(name) != self.files.get(name)
        }
        for name in sorted([*differ, *self.left])[:5]:
            print(f"  {name}", file=sys.stderr, flush=True)
        same = self.table == expected.table
        cells = ["yes" if same else "**no**", len(differ), len(self.left)]
        cells += [self.verified, self.versions]
        well = same and not differ and not self.left and self.verified == 0
        return " | ".join(map(str, cells)), well and self.versions > 0


HEAD = "same table | files that differ | left over | verify | versions that load"


def files(project: Path) -> dict[str, str]:
    """Return the digest of each file of each finished job."""
    found = {}
    for path in sorted(project.glob("data/store/*/*/result.json")):
        job = f"{path.parent.parent.name}/{path.parent.name}"
        for name, written in json.loads(path.read_text())["files"].items():
            found[f"{job}/{name}"] = written["sha256"]
    return found


def loadable(project: Path) -> int:
    """Load every version of every dataset; return how many there are, or -1."""
    done = subprocess.run(
        [sys.executable, "-c", LOAD_ALL],
        cwd=project,
        env={"PYTHONPATH": str(project / "src"), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        print(done.stderr[-2000:], file=sys.stderr)
        return -1
    return int(done.stdout.split()[-1])


def undisturbed(project: Path, words: tuple[str, ...]) -> tuple[Ended, float]:
    """Run to the end; return what came of it, and the seconds."""
    began = time.monotonic()
    code, table, told = finish(start(project, *words))
    assert code == 0, told
    took = time.monotonic() - began
    return Ended.of(project, table), took


def whole(process: subprocess.Popen[str], draw: random.Random) -> psutil.Process:
    """Choose the run itself."""
    return psutil.Process(process.pid)


def any_process(process: subprocess.Popen[str], draw: random.Random) -> psutil.Process:
    """Choose the run, or one of the processes that it has started."""
    run = psutil.Process(process.pid)
    return draw.choice([run, *run.children(recursive=True)])


def kill_until_it_ends(
    project: Path,
    words: tuple[str, ...],
    longest: float,
    draw: random.Random,
    left: int,
    choose: Callable[..., psutil.Process] = whole,
) -> tuple[int, str]:
    """Run until it ends, killed at most ``left`` times; return the kills, the table.

    Args:
        project: Where.
        words: The command.
        longest: Seconds after which it is killed at the latest.
        draw: Of the moments.
        left: Kills at most.
        choose: Which process is killed.
    """
    kills = 0
    while True:
        process = start(project, *words)
        if kills == left:
            break
        time.sleep(draw.uniform(0.5, longest))
        if process.poll() is not None:
            break
        with suppress(psutil.NoSuchProcess):  # it has ended in this moment
            choose(process, draw).kill()
        code, said, told = finish(process)
        if code == 0:
            return kills, said
        kills += 1
        # One that only lost a rank says so itself.
        *_, last = told.splitlines() or [""]
        refused = code == 2 and last.startswith("Error: ") and "Traceback" not in told
        assert refused or code == -signal.SIGKILL, told
    code, said, told = finish(process)
    assert code == 0, told
    return kills, said


def kills(
    folder: Path,
    wanted: int,
    draw: random.Random,
    words: tuple[str, ...] = RUN,
    choose: Callable[..., psutil.Process] = whole,
) -> bool:
    """Kill runs at random moments."""
    expected, took = undisturbed(new_project(folder / "alone"), words)
    print(f"Alone: {took:.0f} s, {len(expected.files)} files.\n")
    print(f"| run | kills | {HEAD} |\n|{':--|' * 7}", flush=True)
    total = run = faults = 0
    while total < wanted:
        run += 1
        project = new_project(folder / f"run{run}")
        done, said = kill_until_it_ends(
            project, words, 0.7 * took, draw, wanted - total, choose
        )
        total += done
        cells, well = Ended.of(project, said).row(expected)
        faults += not well
        print(f"| {run} | {done} | {cells} |", flush=True)
        shutil.rmtree(project)
    print(f"\n{total} kills, {run} runs, {faults} with a fault.\n")
    return faults == 0


def ranks(folder: Path, wanted: int, draw: random.Random) -> bool:
    """Kill a run in two processes, or one of them."""
    return kills(folder, wanted, draw, RANKS, any_process)


def disk(folder: Path, wanted: int, draw: random.Random) -> bool:
    """Begin on a disk that is too small, and go on when it has grown."""
    expected, _ = undisturbed(new_project(folder / "alone"), EVOLVE)
    project = new_project(folder / "full")
    data = project / "data"
    data.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SMALL}", "tmpfs", str(data)]
    subprocess.run(mount, check=True)
    try:
        code, _, told = finish(start(project, *EVOLVE))
        line = told.splitlines()[-1]
        refused = code == 2 and line.startswith("Error: ") and "Traceback" not in told
        subprocess.run(["mount", "-o", f"remount,size={LARGE}", str(data)], check=True)
        code, said, told = finish(start(project, *EVOLVE))
        assert code == 0, told
        cells, well = Ended.of(project, said).row(expected)
    finally:
        subprocess.run(["umount", str(data)], check=True)
    print(f"On a disk of {SMALL}: `{line.replace(str(folder), '')}`\n")
    print(f"| one line, exit code 2 | {HEAD} |\n|{':--|' * 6}")
    print(f"| {'yes' if refused else '**no**'} | {cells} |\n", flush=True)
    return well and refused


def clock(folder: Path, wanted: int, draw: random.Random) -> bool:
    """Kill a run, and go on with a clock that was set back by a day."""
    expected, took = undisturbed(new_project(folder / "alone"), EVOLVE)
    project = new_project(folder / "back")
    process = start(project, *EVOLVE)
    time.sleep(0.6 * took)
    process.kill()
    finish(process)
    code, said, told = finish(start(project, *EVOLVE, before=("faketime", "-1 day")))
    assert code == 0, told
    cells, well = Ended.of(project, said).row(expected)
    # Later again, all of it is reused.
    code, again, told = finish(start(project, *EVOLVE))
    reused = code == 0 and ": started" not in told and again == expected.table
    print(f"| {HEAD} | the next run reuses all |\n|{':--|' * 6}")
    print(f"| {cells} | {'yes' if reused else '**no**'} |\n", flush=True)
    return well and reused


PARTS = {"kills": kills, "ranks": ranks, "disk": disk, "clock": clock}


def main() -> int:
    """Disturb, compare and print; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos")
    parser.add_argument("part", nargs="*", help=f"of {', '.join(PARTS)}; none: all")
    parser.add_argument("--kills", type=int, default=30, help="of kills, and of ranks")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    well = True
    for name in given.part or PARTS:
        print(f"**{name}**\n", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            well &= PARTS[name](Path(folder), given.kills, random.Random(given.seed))
    return int(not well)


if __name__ == "__main__":
    sys.exit(main())
