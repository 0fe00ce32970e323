"""Read a benchmark into items: a prompt, right responses and wrong ones.

The benchmarks' columns are those of their data cards: RewardBench (Lambert et al.,
2024), RewardBench 2 (Malik et al., 2025) and RM-Bench (Liu et al., 2025).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ser_kedro.errors import DataError
from ser_kedro.evaluation.benchmarks.params import Benchmark
from ser_kedro.preferences.files.find import read_records
from ser_kedro.preferences.files.hub import HUB
from ser_kedro.preferences.formats.answers import check_asked
from ser_kedro.preferences.formats.fields import Fields
from ser_kedro.preferences.formats.reader import Dropped
from ser_kedro.preferences.formats.table import FORMATS
from ser_kedro.preferences.formats.turns import Turns
from ser_kedro.preferences.records import BadRow, DropReason, Record
from ser_kedro.preferences.schema import Pair, prompt_key

_STYLES = 3


@dataclass(frozen=True)
class Item:
    """One prompt of a test set.

    Attributes:
        name: Its identity in the set.
        subset: The part of the set that it belongs to; empty where there is none.
        prompt: The dialogue up to the response.
        right: Responses that a good model ranks above all of ``wrong``.
        wrong: The others. RM-Bench has both in three styles, in rising order of
            detail.
    """

    name: str
    subset: str
    prompt: Turns
    right: tuple[str, ...]
    wrong: tuple[str, ...]

    @property
    def group(self) -> str:
        """What its prompt is grouped by."""
        return prompt_key(self.prompt)


def read_items(test: Benchmark, dropped: Counter[str]) -> Iterator[Item]:
    """Stream the items of a test set.

    Args:
        test: Which one.
        dropped: Counts rows that are of no use, by reason.

    Raises:
        DataError: If the place cannot be read, or no row of it is of any use.
    """
    items = (
        _benchmark(test, dropped) if test.format in _PARSERS else _pairs(test, dropped)
    )
    count = 0
    for item in items:
        count += 1
        yield item
    if not count:
        reasons = ", ".join(f"{n:,} {why}" for why, n in dropped.items()) or "no rows"
        raise DataError(
            f"evaluation.benchmarks {test.name}: no usable row in {test.path} as"
            f" {test.format} ({reasons}); check format and path"
        )


def check_items(test: Benchmark) -> None:
    """Check that a test set can be read, before anything is trained.

    A place on the hub is not asked: what is finished may be reused without a network.

    Raises:
        DataError: If the place cannot be read, or no row of it is of any use.
    """
    if not test.path.startswith(HUB):
        next(read_items(test, Counter()))


def _pairs(test: Benchmark, dropped: Counter[str]) -> Iterator[Item]:
    for pair in test.source.pairs("test"):
        if isinstance(pair, Pair):
            sides = (pair.chosen,), (pair.rejected,)
            yield Item(pair.pair_id, pair.source, pair.prompt, *sides)
        elif isinstance(pair, Dropped):
            dropped[str(pair.reason)] += 1


def _benchmark(test: Benchmark, dropped: Counter[str]) -> Iterator[Item]:
    parse = _PARSERS[test.format]
    for raw in read_records(test.source.place("test"), "test"):
        if raw.record is None:
            dropped[str(raw.reason or DropReason.wrong_types)] += 1
            continue
        try:
            yield parse(raw.record)
        except BadRow as bad:
            dropped[str(bad.reason)] += 1


def _reward_bench(record: Record) -> Item:
    """Read ``prompt``, ``chosen``, ``rejected``, ``subset`` and ``id``."""
    return _item(record, "subset")


def _rm_bench(record: Record) -> Item:
    """Read ``prompt``, ``chosen`` and ``rejected`` in three styles, and ``domain``."""
    item = _item(record, "domain")
    if any(len(side) != _STYLES for side in (item.right, item.wrong)):
        raise BadRow(DropReason.wrong_types, "three styles of each answer are needed")
    return item


_PARSERS: dict[str, Callable[[Record], Item]] = {
    "reward_bench": _reward_bench,
    "reward_bench_2": _reward_bench,
    "rm_bench": _rm_bench,
}


def _item(record: Record, subset: str) -> Item:
    """Read an item; one without an ``id`` is named by its prompt and answers."""
    answers, _ = FORMATS["pairs"].read(record)
    scores = answers.scores or ()
    sides = [
        tuple(
            text
            for text, score in zip(answers.texts, scores, strict=True)
            if (score > 0.5) is right
        )
        for right in (True, False)
    ]
    # An empty wrong answer is one of the benchmark's.
    check_asked(answers.prompt)
    name = record.get("id")
    if name is None:
        name = Pair(answers.prompt, sides[0][0], sides[1][0]).pair_id
    named = Fields(record, {"subset": (subset,)})
    return Item(str(name), named.text("subset"), answers.prompt, *sides)
