"""What preference data are like, said before anything is trained on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from tabulate import tabulate

from ser_kedro.errors import printable
from ser_kedro.preferences.formats.reader import Dropped, Item
from ser_kedro.preferences.formats.shapes import read_pair
from ser_kedro.preferences.schema import LonePrompt, Message, Pair
from ser_kedro.preferences.source import Part, PreferenceSource

_SHOWN = 3
_WIDTH = 300


@dataclass
class _Seen:
    """Counts of what was read."""

    rows: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    repairs: Counter[str] = field(default_factory=Counter)
    ids: Counter[str] = field(default_factory=Counter)
    prompts: set[tuple[Message, ...]] = field(default_factory=set)
    lengths: list[tuple[int, ...]] = field(default_factory=list)
    longer: Counter[bool] = field(default_factory=Counter)
    first: Counter[bool] = field(default_factory=Counter)
    shown: list[Pair | LonePrompt] = field(default_factory=list)

    def add(self, item: Item) -> None:
        self.rows += 1
        if isinstance(item, Dropped):
            self.dropped[item.reason.value] += 1
            return
        self.repairs.update(item.repairs)
        self.ids[item.pair_id] += 1
        self.prompts.add(item.prompt)
        asked = sum(len(turn.content) for turn in item.prompt)
        texts = (item.chosen, item.rejected) if isinstance(item, Pair) else ()
        self.lengths.append((asked, *map(len, texts)))
        if isinstance(item, Pair) and item.probability is not None:
            self.first[item.first] += 1
            if len(item.chosen) != len(item.rejected):
                self.longer[len(item.chosen) > len(item.rejected)] += 1
        if len(self.shown) < _SHOWN:
            self.shown.append(item)


def look(source: PreferenceSource, part: Part, rows: int) -> str:
    """Describe the pairs of a place.

    Args:
        source: Where they are.
        part: ``train`` or ``pool``.
        rows: Rows that are read at most.

    Returns:
        What was recognised, counts, lengths, balance, and three pairs, as text.

    Raises:
        DataError: If the place cannot be read, or holds no known format.
    """
    reader = source.read(part)
    seen = _Seen()
    for item in islice(source.items(part, reader), rows):
        seen.add(item)
    found = reader.recognised
    lines = [
        f"Format: {found.name} ({found.form.about})",
        f"Why: {found.why}. Another format is chosen by format=NAME, other columns by"
        " data.columns.",
    ]
    lines += [f"Not read: {name} ({why})" for name, why in source.unread(part)]
    counts = _counts(seen, rows)
    if found.form.shape is not read_pair:  # there it always does
        counts += _balance("the preferred answer stands first", seen.first)
    counts += _balance("the longer answer is preferred", seen.longer)
    table = tabulate(counts, tablefmt="plain")
    if reader.unused:
        columns = ", ".join(f"{name} ({n:,})" for name, n in reader.unused.items())
        lines.append(f"Columns with text that are not used: {columns}")
    return "\n".join([*lines, "", table, *_examples(seen.shown)])


def _counts(seen: _Seen, limit: int) -> list[tuple[str, str]]:
    usable = sum(seen.ids.values())
    prompts = bool(seen.shown) and isinstance(seen.shown[0], LonePrompt)
    what = "prompts" if prompts else "pairs"
    more = " (the first; --rows reads more)" if seen.rows == limit else ""
    lines = [("rows read", f"{seen.rows:,}{more}"), (f"usable {what}", f"{usable:,}")]
    lines += [(f"  dropped: {why}", f"{n:,}") for why, n in seen.dropped.most_common()]
    for repair, rows in seen.repairs.items():
        lines.append((f"  {repair.replace('_', ' ')}", f"{rows:,}"))
    lines += [
        (f"copies of {what}", f"{usable - len(seen.ids):,}"),
        ("different prompts", f"{len(seen.prompts):,}"),
    ]
    known = bool(seen.first)
    answers = ("preferred answer", "other answer") if known else ("one answer", "other")
    columns = zip(*seen.lengths, strict=True)
    for name, values in zip(("prompt", *answers), columns, strict=False):
        low, middle, high = np.percentile(values, (5, 50, 95)).astype(int)
        shown = f"{middle:,} (5 % {low:,}, 95 % {high:,})"
        lines.append((f"characters, {name}", shown))
    return lines


def _balance(name: str, counts: Counter[bool]) -> list[tuple[str, str]]:
    total = counts.total()
    return [(name, f"{counts[True] / total:.1%} of {total:,}")] if total else []


def _examples(shown: Iterable[Pair | LonePrompt]) -> list[str]:
    lines: list[str] = []
    for number, item in enumerate(shown, 1):
        lines += ["", f"--- {number}: {item.place}"]
        lines += [f"{turn.role}: {_short(turn.content)}" for turn in item.prompt]
        if isinstance(item, Pair):
            known = item.probability is not None
            names = ("preferred", "other") if known else ("one answer", "other answer")
            for name, text in zip(names, (item.chosen, item.rejected), strict=True):
                lines.append(f"{name}> {_short(text)}")
            if item.probability is not None and item.probability < 1:
                lines.append(f"soft label> {item.probability:.2f}")
            if item.margin is not None:
                lines.append(f"margin> {item.margin:g}")
    return lines


def _short(text: str) -> str:
    shown = printable(text[:_WIDTH])
    return shown if len(text) <= _WIDTH else f"{shown}…"
