"""Grouping many prompts: the seconds and the memory that it takes."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from typing import Any

from benchmarks.child import arguments, hand_back, stopwatch
from benchmarks.common import Result, limited, run_child

SIZES = {
    "preamble": 100_000,
    "ordinary_small": 100_000,
    "ordinary_large": 400_000,
    "crowded": 100_000,
}
_TITLES = {
    "preamble": "100,000 prompts that share 500 characters",
    "ordinary_small": "100,000 ordinary prompts",
    "ordinary_large": "400,000 ordinary prompts",
    "crowded": "100,000 prompts with the same 5-grams",
}
_LIMITS = {"preamble": (120, 2048), "ordinary_small": (120, 2048)}
_LARGE_LIMIT = (300, 4096)
_WORDS = 20_000


def measure() -> Result:
    """Group the prompts of each kind once, in a process of its own."""
    found = {
        name: run_child("benchmarks.prompt_groups", name, threads=1) for name in SIZES
    }
    rows = []
    for name, title in _TITLES.items():
        seconds, memory = _LIMITS.get(name, _LARGE_LIMIT)
        figures = found[name]
        rows += [
            limited(
                f"grouping {title}: time",
                "a limit",
                "s",
                [figures["seconds"]],
                f"<= {seconds}",
            ),
            limited(
                f"grouping {title}: peak memory of the process",
                "a limit",
                "MiB",
                [figures["memory"]],
                f"<= {memory}",
            ),
        ]
    growth = found["ordinary_large"]["seconds"] / found["ordinary_small"]["seconds"]
    return Result(rows, _text(found, growth), title="Grouping prompts")


def _text(found: dict[str, dict[str, Any]], growth: float) -> str:
    head = ["prompts", "characters a prompt", "s", "peak MiB", "groups", "largest"]
    lines = [head, ["---"] * len(head)]
    for name, title in _TITLES.items():
        each = found[name]
        lines.append(
            [
                title,
                f"{each['length']:.0f}",
                f"{each['seconds']:.1f}",
                f"{each['memory']:.0f}",
                f"{each['groups']:,}",
                f"{each['largest']:,}",
            ]
        )
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return (
        "`group_prompts` with one thread on prompts of words drawn by Zipf's law;"
        " memory is the peak of the process with its libraries and the prompts."
        f" Four times as many ordinary prompts take {growth:.1f} times as long.\n\n"
        f"{table}"
    )


def prompts(kind: str, count: int, seed: int) -> Iterator[str]:
    """Yield made-up prompts.

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
    for _ in range(count):
        if kind == "preamble":
            yield f"{preamble} {text(8)}"
        elif kind == "crowded":
            # Six words give nearly all prompts the same 5-grams.
            yield " ".join(known[place] for place in rng.integers(0, 6, 120))
        else:
            yield text(int(rng.integers(6, 50)))


def main() -> None:
    """Group the prompts of one kind."""
    import numpy as np

    from ser_kedro.preferences.groups import group_prompts

    given = arguments()
    keys = list(prompts(given.contender, SIZES[given.contender], given.seed))
    with stopwatch() as watch:
        numbers = group_prompts(keys)
    hand_back(
        {
            "seconds": watch["seconds"],
            "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "groups": int(numbers.max()) + 1,
            "largest": int(np.bincount(numbers).max()),
            "length": sum(map(len, keys)) / len(keys),
        }
    )


if __name__ == "__main__":
    main()
