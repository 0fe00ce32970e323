"""Copies of a pair: one is kept, and annotators who differ become a soft label."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ser_kedro.preferences.formats.reader import Dropped
from ser_kedro.preferences.records import DropReason
from ser_kedro.store.tables import map_table

EXAMPLES = 3
# These rows are good; there is only no use for them.
OF_NO_USE = (
    DropReason.duplicate,
    DropReason.joined_annotations,
    DropReason.tie,
    DropReason.too_few_answers,
    DropReason.tool_turn,
    DropReason.not_text,
)
_EVEN = 1e-6


@dataclass
class Tally:
    """What is held in memory: counts, and 20 bytes for a row."""

    read: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    repairs: Counter[str] = field(default_factory=Counter)
    # All who said so, of rows that stand for several.
    annotators: dict[int, str] = field(default_factory=dict)
    examples: list[tuple[str, str, str]] = field(default_factory=list)
    ids: bytearray = field(default_factory=bytearray)
    # P(the text that sorts first is the better one), a float32 for a row.
    first_better: bytearray = field(default_factory=bytearray)

    def drop(self, item: Dropped) -> None:
        """Count a row that is not used; keep the first bad ones as examples."""
        self.dropped[item.reason.value] += 1
        if item.reason not in OF_NO_USE and len(self.examples) < EXAMPLES:
            detail = " ".join(item.detail.split())
            self.examples.append((item.place, item.reason.value, detail))


def without_copies(
    path: Path, tally: Tally
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the rows to keep, sorted by pair_id, with their soft labels."""
    halves = np.frombuffer(tally.ids, dtype=">u8").reshape(-1, 2)
    # Big-endian halves sort as the hexadecimal digits do.
    order = np.lexsort((halves[:, 1], halves[:, 0])).astype(np.int64)
    first = np.frombuffer(tally.first_better, np.float32)
    if not len(first):
        first = np.full(len(order), np.nan, np.float32)
    soft = np.maximum(first, 1 - first)[order]
    if not len(order):
        return order, soft
    ids = halves[order]
    starts = np.flatnonzero(np.r_[True, (ids[1:] != ids[:-1]).any(axis=1)])
    sizes = np.diff(np.r_[starts, len(order)])
    kept = np.ones(len(order), bool)
    table = map_table(path)
    several = sizes > 1
    for start, size in zip(starts[several], sizes[several], strict=True):
        rows = order[start : start + size]
        best, label = _judge_copies(table, rows, first[rows], tally)
        kept[start : start + size] = rows == best
        soft[start : start + size] = label
    return order[kept], soft[kept]


def _judge_copies(
    table: pa.Table, rows: NDArray[np.int64], first: NDArray[np.float32], tally: Tally
) -> tuple[int, float]:
    """Return the row to keep among the copies of one pair, and its soft label.

    Args:
        table: All that was read.
        rows: Rows with the same two answers.
        first: What each says of the answer that sorts first.
        tally: Counts those that are dropped.

    Returns:
        The row, -1 if their labels are even; NaN as the label where none has one.
    """
    known = first[~np.isnan(first)]
    share = float(known.mean()) if len(known) else float("nan")
    if abs(share - 0.5) < _EVEN:
        asked = table["prompt"][int(rows[0])].as_py()[-1]["content"]
        detail = f"labelled both ways in {len(rows)} rows: {asked[:80]!r}"
        for row in rows:
            place = table["place"][int(row)].as_py() or "the demo world"
            tally.drop(Dropped(DropReason.conflicting_labels, place, detail))
        return -1, share
    agreeing = rows[(first > 0.5) == (share > 0.5)] if len(known) else rows
    alike = len(known) == 0 or bool(((known > 0.5) == (share > 0.5)).all())
    reason = DropReason.duplicate if alike else DropReason.joined_annotations
    tally.dropped[reason.value] += len(rows) - 1
    # Nothing else differs between these, so this leaves no choice to the order.
    known_by = ("source", "key", "margin")
    columns = [name for name in known_by if name in table.column_names]
    best = min(agreeing, key=lambda i: [str(table[c][int(i)].as_py()) for c in columns])
    if "annotators" in table.column_names:
        names = {table["annotators"][int(row)].as_py() for row in rows} - {""}
        tally.annotators[int(best)] = ", ".join(sorted(names))
    return int(best), max(share, 1 - share)
