"""Kill runs at random moments and start them again: nothing may be lost or differ.

Usage: python -m benchmarks.chaos [KILLS] [SEED]

A run of ``self_evolve,ppo`` in the environment ``test`` is killed (SIGKILL) after a
random time and started again until it ends; then the next one begins, in a project of
its own, until there were so many kills. Each that ended is compared with one that
nobody killed: the table, and each file of each job. Prints a table for
docs/reliability.md, and exits with 1 if anything differs.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.reliability import finish, new_project, start

RUN = ("run", "--env", "test", "--pipelines", "self_evolve,ppo")


def files(project: Path) -> dict[str, str]:
    """Return the digest of each file of each finished job."""
    found = {}
    for path in sorted(project.glob("data/store/*/*/result.json")):
        for name, written in json.loads(path.read_text())["files"].items():
            found[f"{path.parent.parent.name}/{path.parent.name}/{name}"] = written[
                "sha256"
            ]
    return found


def leftovers(project: Path) -> list[str]:
    """Return what begun work has left in the store."""
    store = project / "data" / "store"
    found = [path for path in store.glob("*/*") if "." in path.name]
    return [str(path.relative_to(store)) for path in found if path.suffix != ".json"]


def killed_run(
    project: Path, longest: float, draw: random.Random, left: int
) -> tuple[int, str]:
    """Run until it ends, killed at most ``left`` times; return the kills, the table."""
    kills = 0
    while True:
        process = start(project, *RUN)
        if kills == left:
            break
        time.sleep(draw.uniform(0.5, longest))
        if process.poll() is not None:
            break
        process.kill()
        process.communicate()
        kills += 1
    code, said, told = finish(process)
    assert code == 0, told
    return kills, said


def main() -> int:
    """Kill, compare and print; return the exit code."""
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    draw = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    with tempfile.TemporaryDirectory() as folder:
        alone = new_project(Path(folder) / "alone")
        began = time.monotonic()
        code, table, told = finish(start(alone, *RUN))
        assert code == 0, told
        took = time.monotonic() - began
        expected = files(alone)
        print(f"Alone: {took:.0f} s, {len(expected)} files.\n")
        print("| run | kills | same table | files that differ | left over | verify |")
        print("|:--|:--|:--|:--|:--|:--|")
        total = run = faults = 0
        while total < wanted:
            run += 1
            project = new_project(Path(folder) / f"run{run}")
            kills, said = killed_run(project, 0.7 * took, draw, wanted - total)
            total += kills
            found = files(project)
            differ = sorted(
                name
                for name in expected.keys() | found.keys()
                if expected.get(name) != found.get(name)
            )
            left = leftovers(project)
            verified, _, _ = finish(start(project, "verify", module="ser_kedro"))
            faults += said != table or bool(differ) or bool(left) or verified != 0
            cells = (run, kills, "yes" if said == table else "**no**", len(differ))
            line = " | ".join(map(str, (*cells, len(left), verified)))
            print(f"| {line} |", flush=True)
            for name in [*differ, *left][:5]:
                print(f"  {name}", file=sys.stderr, flush=True)
        print(f"\n{total} kills, {run} runs, {faults} with a fault.")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
