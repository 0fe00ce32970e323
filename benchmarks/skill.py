"""When the pool helps: committees in demo worlds whose writers differ more and more.

Usage: python -m benchmarks.skill [SKILL ...]

In such a world the phrases of a response are good or bad together
(``data.world.skill``), so what one view sees says something of what another one sees.
Runs the experiment ``skill`` for each value in a copy of the project, and prints test
accuracies, how alike the views err beside what they do on real pairs
(``benchmarks.views``), and the pool's part: co_trained less committee.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from statistics import mean, stdev

from benchmarks.reliability import finish, new_project, start

SKILLS = ("0", "0.5", "1", "1.5")
RUN = ("run", "--pipelines", "ablations", "--env", "experiments/skill", "--params")
METHODS = ("seed", "committee", "co_trained", "full_committee")
ACCURACY = re.compile(r"INFO (\w+) with .* seed (\d+): test accuracy ([\d.]+) %")


def accuracies(told: str) -> dict[str, list[float]]:
    """Return the test accuracies that a run logged, by method, in % seed by seed."""
    found: dict[str, list[float]] = defaultdict(list)
    for method, _, accuracy in ACCURACY.findall(told):
        found[method].append(float(accuracy))
    return found


def less(one: list[float], other: list[float]) -> str:
    """Return a mean paired difference and its standard error, in points."""
    gaps = [a - b for a, b in zip(one, other, strict=True)]
    return f"{mean(gaps):+.1f} ± {stdev(gaps) / len(gaps) ** 0.5:.1f}"


def alike(project: Path) -> str:
    """Return how alike the views of a project's committees err."""
    words = [sys.executable, "-m", "benchmarks.views", str(project)]
    here = {**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), "src"])}
    done = subprocess.run(words, capture_output=True, check=True, text=True, env=here)
    row = done.stdout.splitlines()[-1]
    assert "demo world" in row, done.stdout
    return row.split("|")[3].strip()


def main() -> int:
    """Run the worlds and print."""
    names = " | ".join(f"`{name}`" for name in METHODS)
    print(f"| skill | votes' correlation | {names} | committee - seed | pool's part |")
    print("|:--" * (5 + len(METHODS)) + "|")
    for skill in sys.argv[1:] or SKILLS:
        with tempfile.TemporaryDirectory() as folder:
            project = new_project(Path(folder) / "project")
            code, _, told = finish(start(project, *RUN, f"data.world.skill={skill}"))
            assert code == 0, told[-2000:]
            found = accuracies(told)
            cells = [f"{mean(found[name]):.1f}" for name in METHODS]
            gains = less(found["committee"], found["seed"])
            pool = less(found["co_trained"], found["committee"])
            print(
                f"| {skill} | {alike(project)} |",
                " | ".join([*cells, gains, pool]),
                "|",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
