"""Draw the sample: python draw.py helpful-base/test.jsonl.gz (of Anthropic/hh-rlhf)."""

import gzip
import hashlib
import json
import sys
from itertools import groupby
from pathlib import Path

SIZES = {"test": 300, "train": 900}


def opening(line):
    """Return what a dialogue begins with, by which rows are kept together."""
    return json.loads(line)["chosen"].split("\n\nAssistant:")[0].strip()


def place(line):
    """Return where a row stands in the draw: an order that nobody chose."""
    text = opening(line)
    return hashlib.sha256(text.encode()).hexdigest(), text


def main(source):
    """Write whole groups of one opening until each file has its rows."""
    with gzip.open(source, "rt", encoding="utf-8") as stream:
        lines = sorted(stream, key=place)
    groups = (list(group) for _, group in groupby(lines, key=place))
    for name, size in SIZES.items():
        rows = []
        while len(rows) < size:
            rows += next(groups)
        file = Path(__file__).with_name(f"{name}.jsonl.gz")
        # Without a name and a time in it, the file is the same each time.
        file.write_bytes(gzip.compress("".join(rows).encode(), mtime=0))


if __name__ == "__main__":
    main(sys.argv[1])
