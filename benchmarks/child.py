"""What a contender measures of itself, in a process of its own."""

from __future__ import annotations

import argparse
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# "processor" counts one thread's processor time instead of the wall's: for a machine
# that others use too.
CLOCK = "BENCH_CLOCK"
# Opens the line with the figures, among whatever libraries print.
MARK = "measured: "
_STATUS = Path("/proc/self/status")
_PAUSE = 0.005


def anonymous_megabytes() -> float:
    """Return this process's resident anonymous memory (RssAnon) in MiB."""
    line = next(
        line
        for line in _STATUS.read_text("ascii").splitlines()
        if line.startswith("RssAnon:")
    )
    return int(line.split()[1]) / 1024


class Peak:
    """The highest anonymous memory seen so far, above where it began, in MiB."""

    def __init__(self) -> None:
        """Begin here."""
        self.start = self.highest = anonymous_megabytes()

    @property
    def above(self) -> float:
        """The peak less the start."""
        return self.highest - self.start


@contextmanager
def watch_memory() -> Iterator[Peak]:
    """Watch anonymous memory from another thread, every 5 ms."""
    peak, done = Peak(), threading.Event()

    def look() -> None:
        while not done.wait(_PAUSE):
            peak.highest = max(peak.highest, anonymous_megabytes())

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def by_processor() -> bool:
    """Say whether processor time is what counts."""
    return os.environ.get(CLOCK, "wall") == "processor"


def clock() -> float:
    """Return the seconds of the clock that counts."""
    return time.process_time() if by_processor() else time.perf_counter()


@contextmanager
def stopwatch() -> Iterator[dict[str, float]]:
    """Give a dictionary that holds the ``seconds`` once the block has ended."""
    watch: dict[str, float] = {}
    start = clock()
    try:
        yield watch
    finally:
        watch["seconds"] = clock() - start


def arguments() -> argparse.Namespace:
    """Return what the command gave the child: ``contender`` and ``seed``."""
    parser = argparse.ArgumentParser()
    parser.add_argument("contender")
    parser.add_argument("seed", type=int)
    return parser.parse_args()


def hand_back(figures: dict[str, Any]) -> None:
    """Print the figures for the parent."""
    print(f"\n{MARK}{json.dumps(figures)}", flush=True)
