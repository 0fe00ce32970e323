"""docs/benchmarks.md and docs/benchmarks.json, out of measured results."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from benchmarks.common import Result, Row

# Ends the name of a result by the wall clock, beside one by processor time.
WALL = "@wall"

_HEAD = """\
# Benchmarks

Written by `make bench` (`python -m benchmarks`; with names, such as `python -m
benchmarks training losses`, by those parts alone). Contenders take turns, each
repetition in a process of its own. A ratio is ours over theirs in neighbouring
repetitions: the median, and in brackets the lowest and the highest. Absolute figures
depend on the machine and on what else it does; ratios much less. Where a section says
so its clock is the processor's, of one thread (`BENCH_CLOCK=processor`): for a machine
that is busy with other things too.
"""


def render_json(results: Mapping[str, Result]) -> str:
    """Return the lines of all results as a JSON list."""
    lines = [row.as_json() for result in results.values() for row in result.rows]
    return json.dumps(lines, indent=2, ensure_ascii=False) + "\n"


def render_page(results: Mapping[str, Result]) -> str:
    """Return the page: the table, and a section for each result.

    Args:
        results: By the name under which the command knows them.
    """
    rows = [row for result in results.values() for row in result.rows]
    sections = [_section(name, result) for name, result in results.items()]
    return "\n".join([_HEAD, _table(rows), *sections])


def _table(rows: Sequence[Row]) -> str:
    head = ["what", "against", "ours", "theirs", "ratio or spread", "target", "met"]
    lines = [head, ["---"] * len(head), *map(_cells, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _cells(row: Row) -> list[str]:
    spread = f"{_number(row.low)} to {_number(row.high)}"
    ratio = spread if row.ratio is None else f"{_number(row.ratio)} ({spread})"
    sign, limit = row.target.split()
    return [
        row.name,
        row.contender,
        f"{_number(row.ours)} {row.unit}",
        "" if row.theirs is None else f"{_number(row.theirs)} {row.unit}",
        ratio,
        f"{'≥' if sign == '>=' else '≤'} {limit}",
        "yes" if row.met else "**no**",
    ]


def _section(name: str, result: Result) -> str:
    lines = [row.name for row in result.rows]
    title = result.title or " / ".join(dict.fromkeys(lines))
    measured = "; ".join(f"{key}: {value}" for key, value in result.run.items())
    command, wall = name.removesuffix(WALL), name.endswith(WALL)
    words = f"python -m benchmarks{' --wall' if wall else ''} {command}"
    command = f"Command: `{words}`. {measured}."
    return f"## {title}\n\n{result.text}\n\n{command}\n"


def on_the_wall(result: Result) -> Result:
    """Return a result whose lines and title say that the wall clock counted."""
    rows = [replace(row, name=f"{row.name}, wall clock") for row in result.rows]
    title = result.title and f"{result.title}, wall clock"
    return replace(result, rows=rows, title=title)


def _number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"


def to_json(result: Result) -> dict[str, Any]:
    """Return a result as it is kept until the page is written."""
    return asdict(result)


def from_json(kept: Mapping[str, Any]) -> Result:
    """Return what ``to_json`` was given."""
    return Result(**{**kept, "rows": [Row(**row) for row in kept["rows"]]})
