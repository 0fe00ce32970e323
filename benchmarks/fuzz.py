"""Mutated files through every reader: our own errors alone, no hang, nothing lost.

Usage: python -m benchmarks.fuzz [FILES] [SEED]

Small files of every container and compression are mutated (bytes turned, cut, doubled,
joined with those of another file, odd JSON put in) and read as ``data_split`` reads
them. A file may be read, or refused with a ``DataError``; rows read must be rows kept
and rows dropped. Then come files that are made to hurt, each in a process of its own.
Prints the tables of docs/reliability.md, and exits with 1 if anything else happened.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import logging
import lzma
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from pyarrow import feather

from ser_kedro.errors import DataError
from ser_kedro.preferences.collect import collect
from ser_kedro.preferences.source import PreferenceSource

SECONDS = 5
# Share of the files whose packed bytes are mutated; of the others it is the content.
PACKED_FIRST = 0.3
ROWS: dict[str, list[dict[str, Any]]] = {
    "pairs": [
        {"prompt": f"Why {n}?", "chosen": f"So {n}.", "rejected": f"No, {n} é."}
        for n in range(6)
    ],
    "hh": [
        {
            "chosen": f"\n\nHuman: Why {n}?\n\nAssistant: So {n}.",
            "rejected": f"\n\nHuman: Why {n}?\n\nAssistant: No, {n}.",
        }
        for n in range(6)
    ],
    "scored": [
        {
            "instruction": f"Why {n}?",
            "response_1": f"So {n}.",
            "response_2": "No.",
            "preference": n % 3,
        }
        for n in range(6)
    ],
    "messages": [
        {
            "prompt": [{"role": "user", "content": f"Why {n}?"}],
            "chosen": [{"role": "assistant", "content": f"So {n}."}],
            "rejected": [{"role": "assistant", "content": "No."}],
        }
        for n in range(6)
    ],
}
ODD = [
    b"\x00",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b'"\\ud800"',
    b"[" * 2000,
    b'{"a":' * 500,
    b"1e999",
    b"NaN",
    b"9" * 5000,
    b"\r",
    b"\n\n\n",
    b'""',
    b"null",
    b"\x1b[31m",
    "\u2028".encode(),
]


def _frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    plain = [
        {k: v if isinstance(v, str | int) else json.dumps(v) for k, v in row.items()}
        for row in rows
    ]
    return pd.DataFrame(plain)


def _written(write: Callable[[Any], Any]) -> bytes:
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def _arrow(rows: list[dict[str, Any]]) -> bytes:
    table = pa.Table.from_pylist(rows)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


CONTAINERS: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
    "jsonl": lambda rows: "".join(json.dumps(r) + "\n" for r in rows).encode(),
    "json": lambda rows: json.dumps(rows, indent=1).encode(),
    "csv": lambda rows: _frame(rows).to_csv(index=False).encode(),
    "tsv": lambda rows: _frame(rows).to_csv(index=False, sep="\t").encode(),
    "parquet": lambda rows: _written(pd.DataFrame(rows).to_parquet),
    "arrow": _arrow,
    "feather": lambda rows: _written(
        lambda file: feather.write_feather(pa.Table.from_pylist(rows), file)
    ),
    "xlsx": lambda rows: _written(lambda f: _frame(rows).to_excel(f, index=False)),
}


def _zip(data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner.jsonl", data)
    return file.getvalue()


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: bytes(pa.compress(data, "zstd", asbytes=True)),
}


def seeds() -> dict[str, tuple[bytes, Callable[[bytes], bytes]]]:
    """Return small files by name, and how they are packed.

    They are of every shape, container and compression.
    """
    found = {
        f"{shape}.{kind}{suffix}": (write(rows), pack)
        for shape, rows in ROWS.items()
        for kind, write in CONTAINERS.items()
        for suffix, pack in PACKED.items()
    }
    for shape, rows in ROWS.items():
        found[f"{shape}.zip"] = CONTAINERS["jsonl"](rows), _zip
    return found


def mutate(data: bytes, other: bytes, draw: random.Random) -> bytes:
    """Return a file with one to four faults."""
    out = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(out) + 1)
        to = min(len(out), at + draw.randint(1, 40))
        match draw.randrange(6):
            case 0:
                for place in range(at, min(to, at + 4)):
                    out[place] ^= 1 << draw.randrange(8)
            case 1:
                del out[at:]
            case 2:
                del out[at:to]
            case 3:
                out[at:at] = out[at:to] * draw.randint(1, 5)
            case 4:
                out[at:at] = draw.choice(ODD)
            case _:
                out[at:] = other[draw.randrange(len(other)) :]
        if not out:
            break
    return bytes(out)


class Hang(Exception):
    """A file took too long."""


def _too_long(*_: Any) -> None:
    raise Hang


def read(path: Path, folder: Path, seconds: int = SECONDS) -> str:
    """Read a file as ``data_split`` does; return what came of it."""
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(seconds)
    try:
        collect(PreferenceSource(path=str(path)), "train", folder, max_bad_rows=1.0)
    except DataError:
        return "refused"
    except Hang:
        return "hung"
    except Exception:
        traceback.print_exc()
        return "foreign error"
    finally:
        signal.alarm(0)
    return "read"


def mutations(count: int, draw: random.Random) -> bool:
    """Read mutated files; print what came of them."""
    files = seeds()
    names = sorted(files)
    outcomes: Counter[str] = Counter()
    kinds: set[str] = set()
    with tempfile.TemporaryDirectory() as folder:
        for name, (data, pack) in files.items():
            path = Path(folder) / name
            path.write_bytes(pack(data))
            assert read(path, Path(folder)) == "read", name
            path.unlink()
        for number in range(count):
            name = names[number % len(names)]
            data, pack = files[name]
            other, _ = files[draw.choice(names)]
            if draw.random() < PACKED_FIRST:
                data = mutate(pack(data), pack(other), draw)
            else:
                data = pack(mutate(data, other, draw))
            path = Path(folder) / name
            path.write_bytes(data)
            came = read(path, Path(folder))
            outcomes[came] += 1
            kinds.add(name.partition(".")[2])
            if came not in ("read", "refused"):
                kept = Path(tempfile.gettempdir()) / f"fuzz-{number}-{name}"
                kept.write_bytes(data)
                print(f"{came}: {kept}", file=sys.stderr)
            path.unlink()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print("| mutated files | kinds | read | refused | hung | foreign errors | memory |")
    print("|:--" * 7 + "|")
    cells = [outcomes[name] for name in ("read", "refused", "hung", "foreign error")]
    print(
        f"| {count:,} | {len(kinds)} |",
        " | ".join(f"{cell:,}" for cell in cells),
        f"| {peak:.2f} GB |\n",
    )
    return outcomes["hung"] + outcomes["foreign error"] == 0


def _gzip(path: Path) -> Any:
    return gzip.open(path, "wb", 6)


def _xz(path: Path) -> Any:
    return lzma.open(path, "wb", preset=0)


def _plain(path: Path) -> Any:
    return path.open("wb")


@contextmanager
def _member(path: Path) -> Iterator[Any]:
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("inner.jsonl", "w", force_zip64=True) as member,
    ):
        yield member


# How each is opened, and a part that it consists of, so many times.
BOMBS: dict[str, tuple[Callable[[Path], Any], bytes, int]] = {
    "nested.json": (_plain, b"[", 100_000),
    "nested.jsonl": (_plain, b'{"a":', 100_000),
    "line.jsonl": (_plain, b"x" * 1_000_000, 100),
    "empty_lines.jsonl.gz": (_gzip, b"\n" * 1_000_000, 1000),
    "zeros.jsonl.gz": (_gzip, bytes(1_000_000), 1000),
    "zeros.csv.gz": (_gzip, bytes(1_000_000), 1000),
    "zeros.jsonl.xz": (_xz, bytes(1_000_000), 1000),
    "zeros.zip": (_member, bytes(1_000_000), 1000),
}


def bombs() -> bool:
    """Read files that are made to hurt, each in a process of its own."""
    print("| file | on disk | time | memory | what came of it |")
    print("|:--" * 5 + "|")
    fine = True
    with tempfile.TemporaryDirectory() as folder:
        for name, (opened, part, count) in BOMBS.items():
            path = Path(folder) / name
            with opened(path) as file:
                for _ in range(count):
                    file.write(part)
            began = time.monotonic()
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.fuzz", "--one", str(path)],
                capture_output=True,
                check=False,
                text=True,
                env={**os.environ, "PYTHONPATH": os.getcwd()},
            )
            took = time.monotonic() - began
            came, _, peak = done.stdout.strip().rpartition(" ")
            ours = done.returncode == 0 and came in ("read", "refused")
            fine &= ours
            size = path.stat().st_size / 1e6
            print(
                f"| `{name}` | {size:.1f} MB | {took:.1f} s | {peak} GB |"
                f" {came if ours else '**' + (came or done.stderr[-200:]) + '**'} |",
                flush=True,
            )
            path.unlink()
    return fine


def one(path: Path) -> None:
    """Read one file, however long it takes; print what came of it and the memory."""
    with tempfile.TemporaryDirectory() as folder:
        came = read(path, Path(folder), seconds=600)
    print(came, f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f}")


def main() -> int:
    """Fuzz, print, and return the exit code."""
    logging.disable(logging.WARNING)
    if sys.argv[1:2] == ["--one"]:
        one(Path(sys.argv[2]))
        return 0
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    draw = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    fine = mutations(count, draw)
    return int(not (bombs() and fine))


if __name__ == "__main__":
    sys.exit(main())
