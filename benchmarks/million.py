"""Labelling a million made-up pairs against ten thousand: the cost of size."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import pairs
from benchmarks.child import arguments, hand_back, stopwatch, watch_memory
from benchmarks.common import Result, column, limited, run_child

SIZES = {"small": 10_000, "large": 1_000_000}
TINY = pairs.Size(layers=1, hidden=8, intermediate=16, heads=1)
_WORDS = ("cat", "dog", "sun", "rain", "blue", "tree", "salt", "wind")
_BATCH = 4096
# Numbers that are all different and run through their whole range in any table, so
# that the pairs of a small one are no shorter than those of a large one.
_PRIME, _STRIDE = 1_000_003, 611_953


def measure() -> Result:
    """Score the small table, the large one, and the small one again."""
    small = [run_child("benchmarks.million", "small", threads=1)]
    large = run_child("benchmarks.million", "large", threads=1)
    small += [run_child("benchmarks.million", "small", threads=1) for _ in range(2)]
    times = [1e3 * figures["seconds"] / SIZES["small"] for figures in small]
    time = 1e3 * large["seconds"] / SIZES["large"]
    growth = [time / other - 1 for other in times]
    memory = [large["peak"] - other for other in column(small, "peak")]
    name = "labelling 1,000,000 pairs against 10,000"
    return Result(
        [
            limited(f"{name}: time a pair", "itself", "share more", growth, "<= 0.1"),
            limited(
                f"{name}: peak anonymous memory", "itself", "MiB more", memory, "<= 100"
            ),
        ],
        f"`ScoreJob.work` over made-up pairs of a few words, {TINY}, one thread: read,"
        f" encoded, scored, written. {time:.3f} ms a pair ({large['seconds']:.0f} s)"
        f" against {median(times):.3f} ms; peaks of {large['peak']:.0f} and"
        f" {median(column(small, 'peak')):.0f} MiB above the level after imports.",
    )


def made_up(count: int) -> Iterator[Any]:
    """Yield ``count`` pairs in batches, all prompts different."""
    import pyarrow as pa

    from ser_kedro.preferences.schema import UNLABELED

    def word(number: int) -> str:
        return _WORDS[number % len(_WORDS)]

    for start in range(0, count, _BATCH):
        rows = [
            {
                "pair_id": f"{i:032x}",
                "group": f"{i:x}",
                "prompt": [{"role": "user", "content": f"{word(i)} {i:07d}?"}],
                "response_a": f"{word(i // 8)} {word(i // 64)}",
                "response_b": f"{word(i // 64)} {word(i // 512)} {word(i // 8)}",
                "source": "made up",
            }
            for i in (
                place * _STRIDE % _PRIME
                for place in range(start, min(start + _BATCH, count))
            )
        ]
        yield pa.RecordBatch.from_pylist(rows, UNLABELED)


def main() -> None:
    """Score one table."""
    from ser_kedro.preferences.schema import UNLABELED
    from ser_kedro.store.layout import PROJECT_VARIABLE
    from ser_kedro.store.references import ModelRef
    from ser_kedro.store.tables import write_table

    given = arguments()
    count = SIZES[given.contender]
    folder = pairs.BUILD / "million"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "work").mkdir(parents=True)
    os.environ[PROJECT_VARIABLE] = str(folder)
    table = write_table(folder, "pairs", made_up(count), UNLABELED)
    from ser_kedro.models.params import Scoring
    from ser_kedro.models.score_job import ScoreJob
    from ser_kedro.models.scorer import Scorer

    _save_model(folder / "model")
    # Imports what is imported late.
    Scorer.load(folder / "model", Scoring(max_length=64, score_tokens=64))
    job = ScoreJob(
        model=ModelRef(kind="reward_model", path="model", fingerprint="made up"),
        pairs=table,
        max_length=64,
        score_tokens=2048,
    )
    with watch_memory() as peak, stopwatch() as watch:
        job.work(folder / "work")
    shutil.rmtree(folder)
    hand_back({"seconds": watch["seconds"], "peak": peak.above})


def _save_model(folder: Path) -> None:
    pairs.new_model(0, TINY).save_pretrained(folder)
    pairs.tokenizer().save_pretrained(folder)


if __name__ == "__main__":
    main()
