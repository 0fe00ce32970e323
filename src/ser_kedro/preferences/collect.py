"""Pairs are collected into one Arrow file, checked, and freed of copies."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ser_kedro.errors import DataError
from ser_kedro.preferences.checks import check_pairs
from ser_kedro.preferences.copies import OF_NO_USE, Tally, without_copies
from ser_kedro.preferences.formats.reader import Dropped, Item, PairReader
from ser_kedro.preferences.records import DropReason
from ser_kedro.preferences.schema import LABELED, LonePrompt, Pair, prompt_key
from ser_kedro.preferences.source import WORLD, Part, PreferenceSource
from ser_kedro.store.tables import BATCH, map_table, write_table

RAW = pa.schema(
    [
        *(column for column in LABELED if column.name != "group"),
        pa.field("key", pa.string()),
        pa.field("place", pa.string()),
    ]
)
LONE = pa.schema(
    [RAW.field(n) for n in ("pair_id", "prompt", "source", "key", "place")]
)
# Nor are those bad on which annotators disagree, but they are worth a look.
_HARMLESS = (*OF_NO_USE, DropReason.conflicting_labels)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Collected:
    """One part of a source, as it lies in a workspace, and what became of its rows.

    Attributes:
        path: Arrow file of all pairs that could be read, copies included; its columns
            are those of ``RAW``, or of ``LONE`` for prompts alone.
        indices: Rows to keep, int64 of shape ``(kept,)``, sorted by ``pair_id``.
        soft_labels: P(chosen is better) of each of these, float32 of shape ``(kept,)``;
            NaN where nothing is known.
        annotators: Names of the annotators of rows that stand for several, by row.
        read: Number of rows read; equals ``kept`` and all of ``dropped`` together.
        kept: Number of rows to keep.
        dropped: Number of rows dropped, by reason (see ``DropReason``).
        examples: Place, reason and detail of the first bad rows, at most ``EXAMPLES``.
        recognised: How the records were read, in words; empty for the demo world.
        unused: Number of rows with a text in a column that was not read, by column.
        repairs: Number of pairs that something was done to, by what.
    """

    path: Path
    indices: NDArray[np.int64]
    soft_labels: NDArray[np.float32]
    annotators: dict[int, str]
    read: int
    kept: int
    dropped: dict[str, int]
    examples: tuple[tuple[str, str, str], ...]
    recognised: str
    unused: dict[str, int]
    repairs: dict[str, int]

    def only(self, kept: NDArray[np.bool_], reason: DropReason) -> Collected:
        """Return the rows to keep that stay, the others dropped for a reason."""
        left = {reason.value: int((~kept).sum())}
        fewer = replace(
            self, indices=self.indices[kept], soft_labels=self.soft_labels[kept]
        )
        return fewer.less(left)

    def less(self, dropped: Mapping[str, int]) -> Collected:
        """Return the same with more rows counted as dropped, by reason."""
        counts = Counter(self.dropped) + Counter(dropped)
        kept = self.kept - sum(dropped.values())
        return replace(self, kept=kept, dropped=dict(sorted(counts.items())))

    @property
    def prompts_alone(self) -> bool:
        """Whether there are no answers."""
        return "chosen" not in map_table(self.path).column_names


def collect(
    source: PreferenceSource, part: Part, workspace: Path, max_bad_rows: float
) -> Collected:
    """Stream a part of a source into ``<workspace>/raw_<part>.arrow``.

    Of copies (the same two answers to the same prompt) one is kept, the one whose
    ``source`` sorts first among those that agree with most. Where copies are labelled
    both ways, they are the votes of several annotators, and their share is the soft
    label; where these are even, none is kept. What is kept does not depend on the order
    of the rows, as long as the first ones (``recognise.SAMPLE``) show how all are
    written.

    Args:
        source: Where the pairs are from.
        part: ``train``, ``test`` or ``pool``.
        workspace: The job's folder.
        max_bad_rows: Largest share of unusable rows, in [0, 1]; copies, ties and what
            can be read but not used are not counted as such.

    Raises:
        DataError: If the source cannot be read, too many rows are bad, or none is left.
    """
    tally, name = Tally(), source.name(part)
    reader = None if source.format == WORLD else source.read(part)
    if reader is not None:
        _say(reader, name)
    items = tqdm(
        source.items(part, reader),
        desc=f"reading {part} pairs",
        unit=" rows",
        disable=None,
    )
    schema = LONE if reader is not None and reader.prompts_alone else RAW
    batches = _batches(iter(items), tally, schema)
    path = workspace / write_table(workspace, f"raw_{part}", batches, schema).path
    indices, soft_labels = without_copies(path, tally)
    collected = Collected(
        path=path,
        indices=indices,
        soft_labels=soft_labels,
        annotators=tally.annotators,
        read=tally.read,
        kept=len(indices),
        dropped=dict(sorted(tally.dropped.items())),
        examples=tuple(tally.examples),
        recognised="" if reader is None else _described(reader),
        unused={} if reader is None else dict(sorted(reader.unused.items())),
        repairs=dict(sorted(tally.repairs.items())),
    )
    if collected.read != collected.kept + tally.dropped.total():
        raise DataError(
            f"{name}: {collected.read} rows read, but not all accounted for"
        )
    _warn(collected, name)
    _judge(collected, name, max_bad_rows)
    return collected


def _described(reader: PairReader) -> str:
    return f"{reader.recognised.name}: {reader.recognised.why}"


def _say(reader: PairReader, name: str) -> None:
    logger.info("%s: read as %s; format= changes that", name, _described(reader))
    first = next((i for i in reader.first() if not isinstance(i, Dropped)), None)
    if first is None:
        return
    asked = first.prompt[-1].content
    texts = [asked]
    if isinstance(first, Pair):
        texts += [first.chosen, first.rejected]
    known = isinstance(first, Pair) and first.probability is not None
    words = ("prompt", "preferred", "other") if known else ("prompt", "one", "other")
    shown = zip(words, texts, strict=False)
    logger.info(
        "%s: the first: %s",
        name,
        "; ".join(f"{word} {_short(text)!r}" for word, text in shown),
    )


def _short(text: str, length: int = 60) -> str:
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"


def _warn(collected: Collected, name: str) -> None:
    """Say what was read and not used, so that nothing is lost in silence."""
    if collected.unused:
        columns = ", ".join(f"{k} ({n} rows)" for k, n in collected.unused.items())
        logger.warning(
            "%s: columns with text that are not used: %s; data.columns names those"
            " that are",
            name,
            columns,
        )
    for what, rows in collected.repairs.items():
        logger.info("%s: %s in %d rows", name, what.replace("_", " "), rows)


def _batches(
    items: Iterator[Item], tally: Tally, schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    while chunk := list(islice(items, BATCH)):
        found = []
        for item in chunk:
            if isinstance(item, Dropped):
                tally.drop(item)
            else:
                found.append(item)
                tally.repairs.update(item.repairs)
        tally.read += len(chunk)
        if found:
            yield _batch(found, tally, schema)


def _batch(
    found: list[Pair | LonePrompt], tally: Tally, schema: pa.Schema
) -> pa.RecordBatch:
    ids = [item.pair_id for item in found]
    tally.ids += bytes.fromhex("".join(ids))
    pairs = [item for item in found if isinstance(item, Pair)]
    soft = np.array(
        [np.nan if p.probability is None else p.probability for p in pairs], np.float32
    )
    first = np.array([p.chosen < p.rejected for p in pairs], bool)
    tally.first_better += np.where(first, soft, 1 - soft).astype(np.float32).tobytes()
    columns = {
        "pair_id": ids,
        "prompt": [
            [{"role": turn.role, "content": turn.content} for turn in item.prompt]
            for item in found
        ],
        "chosen": [pair.chosen for pair in pairs],
        "rejected": [pair.rejected for pair in pairs],
        "source": [item.source for item in found],
        "soft_label": soft,
        "margin": [np.nan if p.margin is None else p.margin for p in pairs],
        "annotators": [pair.annotator for pair in pairs],
        "key": [
            prompt_key(item.prompt) if item.key is None else item.key for item in found
        ],
        "place": [item.place for item in found],
    }
    batch = pa.RecordBatch.from_pydict({n: columns[n] for n in schema.names}, schema)
    check_pairs(batch, schema)
    return batch


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
