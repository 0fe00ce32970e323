"""The pairs of one place, streamed, and what was noticed on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain, groupby, islice
from typing import Any

from ser_kedro.errors import DataError
from ser_kedro.preferences.formats.answers import Answers
from ser_kedro.preferences.formats.recognise import SAMPLE, Recognised, recognise
from ser_kedro.preferences.formats.shapes import read_prompt_only
from ser_kedro.preferences.formats.table import Format
from ser_kedro.preferences.formats.votes import Reading
from ser_kedro.preferences.records import BadRow, DropReason, Raw
from ser_kedro.preferences.schema import LonePrompt, Pair


@dataclass(frozen=True, slots=True)
class Dropped:
    """A row that was read and not used: why, where, and what exactly."""

    reason: DropReason
    place: str
    detail: str


Item = Pair | LonePrompt | Dropped


@dataclass(frozen=True)
class How:
    """How the records of a place become pairs.

    Attributes:
        format: A name in ``FORMATS``, or ``auto``.
        columns: Columns by what they mean, as the user named them.
        preference: What the values of a preference mean; guessed if ``None``.
        pool: Whether labels are not looked for.
        labels: Of a pool: ``ignore`` them, or keep them for an ``audit``.
        limit: Of a pool: pairs of one prompt at most.
    """

    format: str
    columns: Mapping[str, str]
    preference: Reading | None = None
    pool: bool = False
    labels: str = "ignore"
    limit: int = 1


class PairReader:
    """Streams the pairs of a place, and what is dropped between them.

    Attributes:
        recognised: How its records are read.
        unused: Columns with text that were not read, with the number of such rows;
            complete once all was streamed.
    """

    def __init__(self, raws: Iterable[Raw], how: How, place: str) -> None:
        """Look at the first records.

        Args:
            raws: What was found there.
            how: How it is to be read.
            place: Its name, for messages.

        Raises:
            DataError: If no format fits.
        """
        stream = iter(raws)
        first = list(islice(stream, SAMPLE))
        sample = [raw.record for raw in first if raw.record is not None]
        found = recognise(sample, how.format, how.columns, how.preference, place)
        if how.pool and how.labels == "ignore":
            found = replace(found, form=found.form.styled(blind=True))
        if found.form.shape is read_prompt_only and not how.pool:
            raise DataError(
                f"{place}: prompts alone ({found.why}); labelled pairs are needed, such"
                " as prompt, chosen, rejected; prompts are given as pool_path"
            )
        self.recognised: Recognised = found
        self.unused: Counter[str] = Counter()
        self._how = how
        self._first = first
        self._raws = chain(first, stream)

    @property
    def prompts_alone(self) -> bool:
        """Whether there are prompts without answers."""
        return self.recognised.form.shape is read_prompt_only

    def __iter__(self) -> Iterator[Item]:
        """Stream what the records hold; once."""
        yield from self._read(self._raws, self.unused)

    def first(self) -> Iterator[Item]:
        """Stream what the records hold that were looked at."""
        yield from self._read(self._first, Counter())

    def _read(self, records: Iterable[Raw], unused: Counter[str]) -> Iterator[Item]:
        form = self.recognised.form
        raws = _joined(records, form) if form.joined else records
        for raw in raws:
            if raw.record is None:
                reason = raw.reason or DropReason.wrong_types
                yield Dropped(reason, raw.place, raw.detail)
                continue
            try:
                answers, not_read = form.read(raw.record)
                unused.update(not_read)
                for item in self._items(answers):
                    yield replace(item, place=raw.place)
            except BadRow as bad:
                yield Dropped(bad.reason, raw.place, bad.detail)

    def _items(self, answers: Answers) -> Iterator[Pair | LonePrompt]:
        if self.prompts_alone:
            yield LonePrompt(answers.prompt, answers.source)
        elif not self._how.pool:
            yield answers.labelled()
        else:
            yield from self._pool(answers)

    def _pool(self, answers: Answers) -> Iterator[Pair]:
        pairs = list(answers.unlabelled(self._how.limit))
        if self._how.labels == "audit":
            # The truth must be known of all of the pool, or of none.
            pairs = [pair for pair in pairs if pair.probability is not None]
            if not pairs:
                raise BadRow(DropReason.tie, "no answer is known to be better")
        yield from pairs


def _joined(raws: Iterable[Raw], form: Format) -> Iterator[Raw]:
    """Join consecutive rows with one answer each to the same prompt."""

    def asked(raw: Raw) -> str | None:
        if raw.record is None:
            return None
        fields = form.fields(raw.record)
        return repr([fields.get(name) for name in ("system", "prompt", "input")])

    for key, group in groupby(raws, asked):
        rows = list(group)
        if key is None:
            yield from rows
            continue
        records = [form.fields(raw.record) for raw in rows if raw.record is not None]
        merged: dict[str, Any] = dict(records[0].record)
        responses = [fields.get("response") for fields in records]
        scores = [fields.get("score") for fields in records]
        for name in ("response", "score"):
            for column in form.columns[name]:
                merged.pop(column, None)
        merged["responses"] = [text for text in responses if isinstance(text, str)]
        merged["scores"] = [
            score
            for text, score in zip(responses, scores, strict=True)
            if isinstance(text, str)
        ]
        yield Raw(rows[0].place, merged)
