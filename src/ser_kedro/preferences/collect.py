"""Pairs are collected into one Arrow file, checked, and freed of copies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ser_kedro.errors import DataError
from ser_kedro.preferences.checks import check_pairs
from ser_kedro.preferences.records import DropReason
from ser_kedro.preferences.schema import LABELED, Pair, prompt_key
from ser_kedro.preferences.source import Dropped, Part, PreferenceSource
from ser_kedro.store.tables import BATCH, map_table, write_table

RAW = pa.schema(
    [
        *(column for column in LABELED if column.name != "group"),
        pa.field("key", pa.string()),
        pa.field("place", pa.string()),
    ]
)
EXAMPLES = 3

# These rows are good; there is only no use for them.
_HARMLESS = (DropReason.duplicate, DropReason.tie)


@dataclass(frozen=True)
class Collected:
    """One part of a source, as it lies in a workspace, and what became of its rows.

    Attributes:
        path: Arrow file of all pairs that could be read, copies included; its columns
            are those of ``RAW``.
        indices: Rows to keep, int64 of shape ``(kept,)``, sorted by ``pair_id``.
        read: Number of rows read; equals ``kept`` and all of ``dropped`` together.
        kept: Number of rows to keep.
        dropped: Number of rows dropped, by reason (see ``DropReason``).
        examples: Place, reason and detail of the first bad rows, at most ``EXAMPLES``.
    """

    path: Path
    indices: NDArray[np.int64]
    read: int
    kept: int
    dropped: dict[str, int]
    examples: tuple[tuple[str, str, str], ...]


@dataclass
class _Tally:
    """What is held in memory: counts, and 17 bytes for a row."""

    read: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    examples: list[tuple[str, str, str]] = field(default_factory=list)
    ids: bytearray = field(default_factory=bytearray)
    labels: bytearray = field(default_factory=bytearray)

    def drop(self, item: Dropped) -> None:
        self.dropped[item.reason.value] += 1
        if item.reason not in _HARMLESS and len(self.examples) < EXAMPLES:
            detail = " ".join(item.detail.split())
            self.examples.append((item.place, item.reason.value, detail))


def collect(
    source: PreferenceSource, part: Part, workspace: Path, max_bad_rows: float
) -> Collected:
    """Stream a part of a source into ``<workspace>/raw_<part>.arrow``.

    Of copies (the same two answers to the same prompt, labelled alike) one is kept, the
    one whose ``source`` sorts first; where copies are labelled both ways, none is. What
    is kept does not depend on the order of the rows.

    Args:
        source: Where the pairs are from.
        part: ``train`` or ``test``.
        workspace: The job's folder.
        max_bad_rows: Largest share of unusable rows, in [0, 1]; copies and ties are not
            counted as such, contradictory labels are.

    Raises:
        DataError: If the source cannot be read, too many rows are bad, or none is left.
    """
    tally = _Tally()
    place = source.path if part == "train" else source.test_path
    name = f"{place or source.format} ({part})"
    items = tqdm(
        source.pairs(part), desc=f"reading {part} pairs", unit=" rows", disable=None
    )
    output = write_table(workspace, f"raw_{part}", _batches(iter(items), tally), RAW)
    path = workspace / output.path
    indices = _without_copies(path, tally)
    collected = Collected(
        path=path,
        indices=indices,
        read=tally.read,
        kept=len(indices),
        dropped=dict(sorted(tally.dropped.items())),
        examples=tuple(tally.examples),
    )
    if collected.read != collected.kept + tally.dropped.total():
        raise DataError(
            f"{name}: {collected.read} rows read, but not all accounted for"
        )
    _judge(collected, name, max_bad_rows)
    return collected


def _batches(items: Iterator[Pair | Dropped], tally: _Tally) -> Iterator[Any]:
    while chunk := list(islice(items, BATCH)):
        pairs = []
        tally.read += len(chunk)
        for item in chunk:
            if isinstance(item, Dropped):
                tally.drop(item)
            else:
                pairs.append(item)
        if pairs:
            yield _batch(pairs, tally)


def _batch(pairs: list[Pair], tally: _Tally) -> pa.RecordBatch:
    ids = [pair.pair_id for pair in pairs]
    tally.ids += bytes.fromhex("".join(ids))
    tally.labels += bytes(pair.chosen < pair.rejected for pair in pairs)
    columns = {
        "pair_id": ids,
        "prompt": [
            [{"role": turn.role, "content": turn.content} for turn in pair.prompt]
            for pair in pairs
        ],
        "chosen": [pair.chosen for pair in pairs],
        "rejected": [pair.rejected for pair in pairs],
        "source": [pair.source for pair in pairs],
        "key": [
            prompt_key(pair.prompt) if pair.key is None else pair.key for pair in pairs
        ],
        "place": [pair.place for pair in pairs],
    }
    batch = pa.RecordBatch.from_pydict(columns, schema=RAW)
    check_pairs(batch, RAW)
    return batch


def _without_copies(path: Path, tally: _Tally) -> NDArray[np.int64]:
    """Return the rows to keep, sorted by pair_id, and count the others."""
    halves = np.frombuffer(tally.ids, dtype=">u8").reshape(-1, 2)
    # Big-endian halves sort as the hexadecimal digits do.
    order = np.lexsort((halves[:, 1], halves[:, 0])).astype(np.int64)
    if not len(order):
        return order
    ids = halves[order]
    starts = np.flatnonzero(np.r_[True, (ids[1:] != ids[:-1]).any(axis=1)])
    sizes = np.diff(np.r_[starts, len(order)])
    kept = np.ones(len(order), bool)
    table = map_table(path)
    several = sizes > 1
    for start, size in zip(starts[several], sizes[several], strict=True):
        rows = order[start : start + size]
        best = _judge_copies(table, rows, tally)
        kept[start : start + size] = rows == best
    return order[kept]


def _judge_copies(table: pa.Table, rows: NDArray[np.int64], tally: _Tally) -> int:
    """Return the row to keep among the copies of one pair, -1 if they contradict."""
    if len({tally.labels[row] for row in rows}) == 1:
        tally.dropped[DropReason.duplicate.value] += len(rows) - 1
        # Nothing else differs between copies, so this leaves no choice to the order.
        columns = ("source", "key")
        return int(min(rows, key=lambda i: [table[c][int(i)].as_py() for c in columns]))
    asked = table["prompt"][int(rows[0])].as_py()[-1]["content"]
    detail = f"labelled both ways in {len(rows)} rows: {asked[:80]!r}"
    for row in rows:
        place = table["place"][int(row)].as_py() or "the demo world"
        tally.drop(Dropped(DropReason.conflicting_labels, place, detail))
    return -1


def _judge(collected: Collected, name: str, max_bad_rows: float) -> None:
    harmless = sum(collected.dropped.get(reason, 0) for reason in _HARMLESS)
    bad = collected.read - collected.kept - harmless
    first = "; ".join(f"{p} {r} ({d})" for p, r, d in collected.examples)
    if bad > max_bad_rows * collected.read:
        share = f"{bad} of {collected.read} rows ({bad / collected.read:.1%})"
        raise DataError(
            f"{name}: {share} are unusable, more than max_bad_rows={max_bad_rows:g}:"
            f" {first}; fix them, or choose another format or a larger max_bad_rows"
        )
    if not collected.kept:
        counts = ", ".join(f"{n} {r}" for r, n in collected.dropped.items())
        raise DataError(
            f"{name}: no usable pair among {collected.read} rows"
            + (f" ({counts})" if counts else "")
            + "; check the path and the format"
        )
