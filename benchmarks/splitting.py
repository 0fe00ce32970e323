"""Splitting many pairs: the seconds and the memory that it takes."""

from __future__ import annotations

import json
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.child import arguments, clock, hand_back, stopwatch
from benchmarks.common import Result, clock_name, limited, run_child

SIZES = {
    "preamble": 100_000,
    "ordinary_small": 100_000,
    "ordinary_large": 400_000,
    "crowded": 100_000,
}
_TITLES = {
    "preamble": "100,000 pairs, prompts that share 500 characters",
    "ordinary_small": "100,000 ordinary pairs",
    "ordinary_large": "400,000 ordinary pairs",
    "crowded": "100,000 pairs, prompts with the same 5-grams",
}
_LIMITS = {"preamble": (120, 2048), "ordinary_small": (120, 2048)}
_LARGE_LIMIT = (600, 4096)
_WORDS = 20_000


def measure() -> Result:
    """Split the pairs of each kind once, in a process of its own."""
    found = {name: run_child("benchmarks.splitting", name, threads=1) for name in SIZES}
    rows = []
    for name, title in _TITLES.items():
        seconds, memory = _LIMITS.get(name, _LARGE_LIMIT)
        figures = found[name]
        rows += [
            limited(
                f"splitting {title}: time",
                "a limit",
                "s",
                [figures["seconds"]],
                f"<= {seconds}",
            ),
            limited(
                f"splitting {title}: peak memory of the process",
                "a limit",
                "MiB",
                [figures["memory"]],
                f"<= {memory}",
            ),
        ]
    growth = found["ordinary_large"]["seconds"] / found["ordinary_small"]["seconds"]
    return Result(
        rows,
        _text(found, growth),
        run={"Clock": f"{clock_name()}, threads: 1"},
        title="Splitting",
    )


def _text(found: dict[str, dict[str, Any]], growth: float) -> str:
    head = ["pairs", "characters a prompt", "s", "of which grouping", "peak MiB"]
    head += ["groups", "rows of the largest"]
    lines = [head, ["---"] * len(head)]
    for name, title in _TITLES.items():
        each = found[name]
        lines.append(
            [
                title,
                f"{each['length']:.0f}",
                f"{each['seconds']:.1f}",
                f"{each['grouping']:.1f}",
                f"{each['memory']:.0f}",
                f"{each['groups']:,}",
                f"{each['largest']:,}",
            ]
        )
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    memory = found["ordinary_large"]["memory"] / found["ordinary_small"]["memory"]
    return (
        "`data_split` with one thread, from a JSONL file to the tables: read, checked,"
        " freed of copies, grouped, split and written. Prompts are of words drawn by"
        " Zipf's law, answers of 20 of them. Memory is the peak of the process with its"
        f" libraries. Four times as many ordinary pairs take {growth:.1f} times as long"
        f" and {memory:.1f} times the memory.\n\n{table}"
    )


def pairs(kind: str, count: int, seed: int) -> Iterator[dict[str, str]]:
    """Yield made-up pairs.

    Args:
        kind: Of ``SIZES``.
        count: How many.
        seed: Of the words.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    known = ["".join(rng.choice(letters, rng.integers(2, 11))) for _ in range(_WORDS)]
    shares = 1 / np.arange(1, _WORDS + 1)
    ends = np.cumsum(shares / shares.sum())

    def text(words: int) -> str:
        drawn = np.minimum(np.searchsorted(ends, rng.random(words)), _WORDS - 1)
        return " ".join(known[place] for place in drawn)

    preamble = text(150)[:500]
    for number in range(count):
        if kind == "preamble":
            prompt = f"{preamble} {text(8)}"
        elif kind == "crowded":
            # Six words give nearly all prompts the same 5-grams.
            prompt = " ".join(known[place] for place in rng.integers(0, 6, 120))
        else:
            prompt = text(int(rng.integers(6, 50)))
        answers = {"chosen": f"{text(20)} {number}", "rejected": text(20)}
        yield {"prompt": prompt, **answers}


def main() -> None:
    """Split the pairs of one kind."""
    from ser_kedro.preferences import split
    from ser_kedro.preferences.source import PreferenceSource
    from ser_kedro.preferences.split_job import SplitJob
    from ser_kedro.store.json_io import read_json

    given = arguments()
    group, grouping = split.group_prompts, {"seconds": 0.0}

    def timed(*args: Any, **options: Any) -> Any:
        start = clock()
        found = group(*args, **options)
        grouping["seconds"] += clock() - start
        return found

    split.group_prompts = timed
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "pairs.jsonl")
        length = 0
        with file.open("w", encoding="utf-8") as stream:
            for pair in pairs(given.contender, SIZES[given.contender], given.seed):
                length += len(pair["prompt"])
                stream.write(json.dumps(pair) + "\n")
        job = SplitJob(source=PreferenceSource(path=str(file)))
        with stopwatch() as watch:
            made = job.work(Path(folder))
        report = read_json(Path(folder) / made["data_report"].path)
    hand_back(
        {
            "seconds": watch["seconds"],
            "grouping": grouping["seconds"],
            "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "groups": report["prompt_groups"],
            "largest": report["largest_group"]["rows"],
            "length": length / SIZES[given.contender],
        }
    )


if __name__ == "__main__":
    main()
