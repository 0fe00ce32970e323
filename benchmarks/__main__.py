"""Run the benchmarks and write docs/benchmarks.md and docs/benchmarks.json."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
from datetime import date
from importlib import import_module
from importlib.metadata import version

from benchmarks.child import CLOCK
from benchmarks.common import Result, clock_name, clock_threads
from benchmarks.page import (
    WALL,
    from_json,
    on_the_wall,
    render_json,
    render_page,
    to_json,
)
from benchmarks.pairs import ROOT, prepare
from ser_kedro.launch.machine import processor

# In the order of the page.
NAMES = (
    "training",
    "smollm2",
    "smollm2_ladder",
    "step_memory",
    "lora_layers",
    "losses",
    "accuracy",
    "packing",
    "labelling",
    "smollm2_labelling",
    "million",
    "reuse",
    "generation",
    "ppo",
    "ppo_full",
    "tuning",
    "splitting",
)
LIBRARIES = ("torch", "transformers", "trl", "tokenizers")
RESULTS = ROOT / "benchmarks" / "results"  # kept, so that a part can be redone alone


def main() -> None:
    """Run the benchmarks that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", nargs="*", help=f"of {', '.join(NAMES)}; none: all")
    parser.add_argument(
        "--wall",
        action="store_true",
        help="by the wall clock with two threads, beside what was measured otherwise:"
        " for a machine that does nothing else",
    )
    given = parser.parse_args()
    names = given.name or NAMES
    if given.wall:
        os.environ[CLOCK] = "wall"
    if unknown := set(names) - set(NAMES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    prepare()
    RESULTS.mkdir(parents=True, exist_ok=True)
    for name in names:
        result: Result = import_module(f"benchmarks.{name}").measure()
        result.run = run_facts() | result.run
        text = json.dumps(to_json(result), indent=2, ensure_ascii=False)
        file = RESULTS / f"{name}{WALL if given.wall else ''}.json"
        file.write_text(text, "utf-8")
        write_page()


def write_page() -> None:
    """Write page and table out of the newest result of each benchmark."""
    results = {}
    for name in NAMES:
        for suffix in ("", WALL):
            file = RESULTS / f"{name}{suffix}.json"
            if file.is_file():
                result = from_json(json.loads(file.read_text("utf-8")))
                results[f"{name}{suffix}"] = on_the_wall(result) if suffix else result
    docs = ROOT / "docs"
    (docs / "benchmarks.md").write_text(render_page(results), "utf-8")
    (docs / "benchmarks.json").write_text(render_json(results), "utf-8")


def run_facts() -> dict[str, str]:
    """Return when, of what, with what and on what a result was measured."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    return {
        "Measured": f"{date.today()}, commit {commit or 'unknown'}",
        "Versions": f"Python {platform.python_version()}, {libraries}",
        "Clock": f"{clock_name()}, threads: {clock_threads()}",
        "Machine": f"{processor()}, {os.cpu_count()} cores, load at the end {load}",
    }


if __name__ == "__main__":
    main()
