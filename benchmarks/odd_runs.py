"""Runs whose numbers could lie: each must say so, and none may end in a traceback.

Usage: python -m benchmarks.odd_runs [NAME ...]

Writes small files of pairs and runs ``kedro run --env own --pipelines self_evolve`` on
them in a copy of the project, case by case. Prints the table of docs/reliability.md:
the line in which a run was refused, or its stop reason and its cautions. Exits with 1
if a case ended in a traceback, or did not name what is odd about it.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.reliability import finish, new_project, start
from ser_kedro.preferences.demo_world.world import Part, WorldParams, draw_pairs

WORLD = WorldParams(pairs=400, test_pairs=200, phrases=20)
RUN = ("run", "--env", "own", "--pipelines", "self_evolve", "--params")
# Enough labels that no caution is about their number.
ALWAYS = "model=test,format=pairs,data_split.labeled_share=0.5,self_evolve.max_loops=2"
STOP = re.compile(r"\b(collapsed|no_confident_pairs|pool_empty|converged|max_loops)\b")
Row = dict[str, str]


@dataclass(frozen=True)
class Case:
    """A run with something odd about it.

    Attributes:
        params: What is added to ``ALWAYS``.
        named: What must be said of it, an expression.
        refused: The run ends in one line, with exit code 2.
    """

    params: str
    named: str
    refused: bool = False


TEST = "path=train.jsonl,test_path=test.jsonl"
CASES = {
    "constant rewards": Case(
        # Each step takes all weights to zero.
        f"{TEST},reward.learning_rate=1.0e-9,reward.weight_decay=1.0e+9",
        "the kept model gives all responses the same reward",
    ),
    "NaN loss": Case(
        f"{TEST},reward.learning_rate=1.0e+9",
        "lower .*learning_rate",
        refused=True,
    ),
    "exploding rewards": Case(
        # The head alone: where all is trained, its input shrinks to one vector.
        f"{TEST},reward.trainable=head,reward.learning_rate=1000",
        "rewards of the kept model differ by",
    ),
    "all pairs selected": Case(
        f"{TEST},self_evolve.status_rule=quantile,self_evolve.quantile=1.0",
        "selected the whole pool",
    ),
    "none selected": Case(
        f"{TEST},self_evolve.tau_high=1.0,self_evolve.tau_delta=1.0",
        "no_confident_pairs",
    ),
    "a pool of one pair": Case(
        f"{TEST},pool_path=one_pair.jsonl,self_evolve.min_count=1,"
        "self_evolve.tau_high=0.5,self_evolve.tau_low=0.5,self_evolve.tau_delta=0.0",
        "the pool has one row",
    ),
    "an empty pool file": Case(f"{TEST},pool_path=empty.jsonl", "empty.jsonl", True),
    "no pool: all labelled": Case(
        f"{TEST},pool_path=train.jsonl",
        "400 have a label already",
        refused=True,
    ),
    "no pool: `labeled_share=0.999`": Case(
        f"{TEST},data_split.labeled_share=0.999", "nothing left for unlabeled", True
    ),
    "labels turned round": Case(
        "path=train.jsonl,test_path=turned.jsonl", "turned round"
    ),
    "one prompt": Case("path=one_prompt.jsonl", "the test pairs are of one prompt"),
    "a third of the training set is the test set": Case(
        "path=train.jsonl,test_path=part.jsonl", r"\d+ in test set"
    ),
    "the training set is the test set": Case(
        "path=train.jsonl,test_path=train.jsonl",
        "all 400 training pairs are out: their prompts are in the test set",
        refused=True,
    ),
}


def pairs(part: Part) -> list[Row]:
    """Draw pairs of the demo world."""
    return [
        {
            "prompt": pair.prompt[-1].content,
            "chosen": pair.chosen,
            "rejected": pair.rejected,
        }
        for pair in draw_pairs(WORLD, part)
    ]


def turned(row: Row) -> Row:
    """Return a pair with the other label."""
    return {**row, "chosen": row["rejected"], "rejected": row["chosen"]}


def write_files(project: Path) -> None:
    """Write the files that the cases name."""
    train, test = pairs("train"), pairs("test")
    files: dict[str, Iterable[Row]] = {
        "train": train,
        "test": test,
        "turned": map(turned, test),
        "part": train[::3],
        "one_pair": [{**test[0], "prompt": "Whose pair is alone in here?"}],
        "one_prompt": ({**row, "prompt": train[0]["prompt"]} for row in train),
        "empty": (),
    }
    for name, rows in files.items():
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (project / f"{name}.jsonl").write_text(text, "utf-8")


def ending(code: int, said: str, told: str) -> str:
    """Return how a run ended: the line of the error, or its reasons and cautions."""
    if code:
        return told.splitlines()[-1]
    reasons = sorted(set(STOP.findall(said)))
    lines = [
        line
        for line in said.splitlines()
        if line.startswith("Mind: ") or "in test set" in line
    ]
    return " ".join([f"`{', '.join(reasons)}`.", *lines])


def is_right(case: Case, code: int, said: str, told: str) -> bool:
    """Say whether a run ended as it should."""
    named = re.search(case.named, ending(code, said, told))
    ended = code == (2 if case.refused else 0)
    stopped = case.refused or STOP.search(said)
    return bool(named and ended and stopped) and "Traceback" not in said + told


def main() -> None:
    """Run the cases that are named, or all."""
    names = sys.argv[1:] or list(CASES)
    wrong = 0
    print("| case | exit code | how it ended |")
    print("|:--|:--|:--|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        project = new_project(Path(folder) / "project")
        write_files(project)
        for name in names:
            case = CASES[name]
            done = finish(start(project, *RUN, f"{ALWAYS},{case.params}"))
            right = is_right(case, *done)
            wrong += not right
            shown = ending(*done).replace(str(project), ".")
            print(f"| {name} | {done[0]} | {shown if right else f'**{shown}**'} |")
            if not right:
                print(*done[1:], sep="\n", file=sys.stderr)
            sys.stdout.flush()
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
