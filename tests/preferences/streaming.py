"""How much memory it takes to stream the records of a place."""

from __future__ import annotations

import subprocess
import sys

_PROGRAM = """
import sys, tracemalloc
from ser_kedro.preferences.files.find import read_records
tracemalloc.start()
count = sum(1 for _ in read_records(sys.argv[1]))
print(count, tracemalloc.get_traced_memory()[1])
"""


def count_and_peak(path):
    """Return the records of a file, and the bytes that Python held at most."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    count, peak = map(int, done.stdout.split())
    return count, peak
