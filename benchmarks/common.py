"""What all benchmarks share: rows of the table, and contenders that take turns."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.child import MARK, by_processor
from benchmarks.pairs import BUILD, ROOT

# Words before a child's command, such as "nice -n 5" or a lock that others heed.
PREFIX = "BENCH_PREFIX"
# How often contenders take turns.
ROUNDS = "BENCH_ROUNDS"
THREADS = 2
# Figures of a benchmark that is not complete: it goes on where it was.
TURNS = BUILD / "turns"

Figures = dict[str, Any]


@dataclass
class Row:
    """One line of the table.

    Attributes:
        name: What is compared.
        contender: With whom.
        unit: Of ``ours`` and ``theirs``.
        ours: Our figure: the median, where there are several.
        theirs: The same of the contender; ``None`` where a limit takes its place.
        ratio: Median of the ratios of neighbouring repetitions, ours over theirs;
            ``None`` without a contender.
        low: The lowest of these ratios, or of our figures.
        high: The highest.
        target: ``>= 3`` or ``<= 0.6``: what the ratio, or without one our figure, must
            be.
    """

    name: str
    contender: str
    unit: str
    ours: float
    theirs: float | None
    ratio: float | None
    low: float
    high: float
    target: str

    @property
    def met(self) -> bool:
        """Whether the target is met."""
        sign, limit = self.target.split()
        value = self.ours if self.ratio is None else self.ratio
        return value >= float(limit) if sign == ">=" else value <= float(limit)

    def as_json(self) -> Figures:
        """Return the line with its verdict."""
        return {**asdict(self), "met": self.met}


@dataclass
class Result:
    """What one benchmark gave.

    Attributes:
        rows: Its lines of the table.
        text: What they mean, in Markdown; measured figures that are no line are here.
        run: When, of what and on what they were measured.
        title: Of the section; the names of the lines, where it is empty.
    """

    rows: list[Row]
    text: str
    run: dict[str, str] = field(default_factory=dict)
    title: str = ""


def compared(
    name: str,
    contender: str,
    unit: str,
    ours: Sequence[float],
    theirs: Sequence[float],
    target: str,
) -> Row:
    """Return the line of two contenders that took turns.

    Args:
        name: As in ``Row``, like the next two.
        contender: With whom.
        unit: Of the figures.
        ours: Our figure of each repetition.
        theirs: The contender's, in the same order.
        target: As in ``Row``.
    """
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return Row(
        name,
        contender,
        unit,
        median(ours),
        median(theirs),
        median(ratios),
        min(ratios),
        max(ratios),
        target,
    )


def limited(
    name: str, contender: str, unit: str, figures: Sequence[float], target: str
) -> Row:
    """Return the line of a figure that must keep a limit."""
    low, high = min(figures), max(figures)
    return Row(name, contender, unit, median(figures), None, None, low, high, target)


def run_child(
    module: str,
    contender: str,
    seed: int = 0,
    *,
    threads: int | None = None,
    path: str = "",
) -> Figures:
    """Let a contender measure itself in a new process, and return its figures.

    Args:
        module: ``benchmarks.NAME``, which calls ``child.hand_back``.
        contender: Which of the module's.
        seed: Draws what the repetition draws.
        threads: Of the child; ``None``: as the clock asks.
        path: A folder of packages that go before the environment's own.

    Raises:
        SystemExit: If the child fails; its output is shown.
    """
    folders = [path, str(ROOT), str(ROOT / "src")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(folder for folder in folders if folder),
        "OMP_NUM_THREADS": str(threads or clock_threads()),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    command = [sys.executable, "-m", module, contender, str(seed)]
    print(f"{module} {contender} {seed} …", end=" ", flush=True)
    done = subprocess.run(
        shlex.split(os.environ.get(PREFIX, "")) + command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    if done.returncode or not lines:
        sys.exit(f"\n{done.stdout}\n{' '.join(command)} failed")
    figures: Figures = json.loads(lines[-1].removeprefix(MARK))
    print(", ".join(f"{k} {v:.4g}" for k, v in figures.items() if _is_number(v)))
    return figures


def take_turns(
    module: str,
    contenders: Sequence[str],
    seeds: Sequence[int] | None = None,
    paths: Mapping[str, str] | None = None,
) -> dict[str, list[Figures]]:
    """Run all contenders once, then all again, and so on: one round a seed.

    Args:
        module: As in ``run_child``.
        contenders: Their names.
        seeds: One for each round; ``None``: as many as ``BENCH_ROUNDS`` says.
        paths: The ``path`` of a contender, where it has packages of its own.
    """
    figures: dict[str, list[Figures]] = {name: [] for name in contenders}
    TURNS.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    if seeds is None:
        seeds = range(int(os.environ.get(ROUNDS, "3")))
    for seed in seeds:
        for name in contenders:
            kept = TURNS / f"{module}-{name}-{seed}.json"
            if not kept.is_file():
                path = (paths or {}).get(name, "")
                found = run_child(module, name, seed, path=path)
                kept.write_text(json.dumps(found), "utf-8")
            files.append(kept)
            figures[name].append(json.loads(kept.read_text("utf-8")))
    for file in files:
        file.unlink()
    return figures


def clock_name() -> str:
    """Return what the clock that counts is called."""
    return "processor time" if by_processor() else "wall time"


def clock_threads() -> int:
    """Return the threads of a child: processor time is only fair to one."""
    return 1 if by_processor() else THREADS


def column(figures: Sequence[Figures], name: str) -> list[float]:
    """Return one figure of all repetitions."""
    return [float(row[name]) for row in figures]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)
