"""docs/results.md and docs/results.json out of the outcomes of the arms.

Usage: python scripts/results_page.py [--development FILE ...]
           [--confirmation FILE ...] [--efficiency FILE ...]
           [--development-history FILE ...] [--confirmation-history FILE ...]
           [--labels DATA=NUMBER ...] [--command TEXT]

A FILE is a table of outcomes (.arrow), or a reference to one in the store (.json), as
the catalog keeps it; a history is ``arm_history``. ``--labels`` says how many human
labels a share of 1 is, ``--command`` what the page names as its source.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa

from ser_kedro.ablations.loop_table import loops_text
from ser_kedro.ablations.outcome_schema import OUTCOMES
from ser_kedro.ablations.page.page import (
    CONFIRMATION,
    DEVELOPMENT,
    PHASES,
    Page,
    Provenance,
    results_page,
)
from ser_kedro.errors import DataError, SerKedroError
from ser_kedro.evaluation.params import EvaluationParams
from ser_kedro.store.json_io import plain, read_json, write_json
from ser_kedro.store.references import TableRef
from ser_kedro.store.tables import map_table, read_table

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
LIBRARIES = ("torch", "transformers", "trl", "scipy", "scikit-learn")
HISTORIES = (DEVELOPMENT, CONFIRMATION)
HEAD = """# Results

Every figure here was printed by the command that its section names.
"""

LOOPS = """### Loop by loop

Means over the draws that trained a model in that loop. Test accuracy is that of the
loop's own model, whether it was kept or not; "less the seed's" is paired in the draw.
The loop after the last that may run (5 of 4) is the refit, where an arm has one.

"""


def write_section(name: str, text: str, docs: Path = DOCS) -> None:
    """Replace the section ``name`` of the page, or add it at the end."""
    file = docs / "results.md"
    start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    page = file.read_text("utf-8") if file.is_file() else HEAD
    section = f"{start}\n{text.strip()}\n{end}\n"
    if start in page:
        before, rest = page.split(start, 1)
        page = before + section.rstrip("\n") + rest.split(end, 1)[1]
    else:
        page = f"{page.rstrip()}\n\n{section}"
    file.write_text(page, "utf-8")


def commit() -> str:
    """Return the commit that is checked out, marked where the tree differs from it."""
    command = ["git", "describe", "--always", "--dirty", "--exclude", "*"]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()


def outcomes(file: Path) -> pa.Table:
    """Return the table of outcomes that a file holds or refers to.

    Raises:
        DataError: If it cannot be read, or is of an earlier version.
    """
    try:
        if file.suffix == ".json":
            table = read_table(TableRef.model_validate(read_json(file)))
        else:
            table = map_table(file)
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: is not readable as outcomes ({error})") from error
    if missing := set(OUTCOMES.names) - set(table.column_names):
        raise DataError(
            f"{file}: has no {', '.join(sorted(missing))}; run its pipeline again, what"
            " was computed is reused"
        )
    return table.select(OUTCOMES.names)


def label_counts(given: list[str]) -> dict[str, int]:
    """Return human labels at a share of 1 by data set, from ``DATA=NUMBER``."""
    pairs = [text.rpartition("=") for text in given]
    if wrong := [name + sign + n for name, sign, n in pairs if not n.isdecimal()]:
        raise DataError(f"--labels {wrong[0]}: write DATA=NUMBER")
    return {name: int(number) for name, _, number in pairs}


def histories(files: list[Path]) -> list[dict[str, Any]]:
    """Return the rows of several histories.

    Raises:
        DataError: If one cannot be read.
    """
    try:
        return [row for file in files for row in read_json(file)]
    except (OSError, ValueError) as error:
        raise DataError(f"history: {error}") from error


def write_page(page: Page, docs: Path) -> None:
    """Write text, rows and figures; figures as SVG files."""
    write_section("evidence", page.markdown, docs)
    write_json(docs / "results.json", plain(page.rows))
    (docs / "figures").mkdir(exist_ok=True)
    for name, figure in page.figures.items():
        figure.write_image(docs / "figures" / f"{name}.svg")


def main(arguments: list[str] | None = None) -> None:
    """Read the outcomes and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    for phase in PHASES:
        parser.add_argument(f"--{phase}", nargs="*", type=Path, default=[])
    for phase in HISTORIES:
        parser.add_argument(f"--{phase}-history", nargs="*", type=Path, default=[])
    parser.add_argument("--labels", nargs="*", default=[], metavar="DATA=NUMBER")
    parser.add_argument("--command", help="in the place of this one")
    parser.add_argument("--docs", type=Path, default=DOCS, help="where to write")
    given = parser.parse_args(arguments)
    words = sys.argv[1:] if arguments is None else arguments
    own = f"python scripts/results_page.py {shlex.join(words)}"
    try:
        page = results_page(
            {
                phase: pa.concat_tables(map(outcomes, files))
                for phase in PHASES
                if (files := getattr(given, phase))
            },
            Provenance(
                given.command or own,
                commit(),
                {name: version(name) for name in LIBRARIES},
            ),
            EvaluationParams(),
            label_counts(given.labels),
        )
        loops = {
            phase: histories(getattr(given, f"{phase}_history")) for phase in HISTORIES
        }
    except SerKedroError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
    write_page(page, given.docs)
    print(page.markdown)
    tables = [
        f"**{phase.capitalize()}**\n\n{loops_text(history)}"
        for phase, history in loops.items()
        if history
    ]
    if tables:
        write_section("loops", LOOPS + "\n\n".join(tables), given.docs)


if __name__ == "__main__":
    main()
