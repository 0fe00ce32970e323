"""Which format records have, where nobody said it, and how their values are written."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ser_kedro.errors import DataError
from ser_kedro.preferences.formats.fields import Fields
from ser_kedro.preferences.formats.shapes import read_two
from ser_kedro.preferences.formats.table import FORMATS, MEANINGS, Format, implied
from ser_kedro.preferences.formats.votes import Reading, guess_reading
from ser_kedro.preferences.records import Record

AUTO = "auto"
SAMPLE = 200
# Of the sample, so that a few odd rows do not hide what a file is.
_MOST = 0.8


@dataclass(frozen=True)
class Recognised:
    """How the records of a place are read.

    Attributes:
        name: Of the format.
        form: The format, its style settled.
        why: What it was recognised by, in words.
    """

    name: str
    form: Format
    why: str


def recognise(
    sample: Sequence[Record],
    wanted: str,
    columns: Mapping[str, str],
    preference: Reading | None,
    place: str,
) -> Recognised:
    """Say how records are to be read.

    Args:
        sample: Some records.
        wanted: A name in ``FORMATS``, or ``auto``.
        columns: Columns by what they mean, as the user named them; may be empty.
        preference: What the values of a preference mean; guessed if ``None``.
        place: Where the records are, for messages.

    Raises:
        DataError: If no format fits.
    """
    _check_columns(sample, columns, place)
    name = implied(columns) if wanted == AUTO else wanted
    if name is None:
        found = _guess(sample, place)
    else:
        given = "columns" if wanted == AUTO else "format"
        found = Recognised(name, FORMATS[name], f"{given} as given")
    if columns:
        why = f"{found.why}, with {_named(columns)}"
        found = Recognised(found.name, found.form.renamed(columns), why)
    form, notes = _settled(found.form, sample, preference)
    return Recognised(found.name, form, "; ".join([found.why, *notes]))


def check_format(name: str, parameter: str, known: Sequence[str]) -> None:
    """Check the name of a format.

    Raises:
        DataError: If there is none such.
    """
    if name not in known:
        close = difflib.get_close_matches(name, known, 1, 0.4)
        hint = f", did you mean {close[0]}?" if close else ""
        raise DataError(
            f"{parameter}={name!r}: unknown{hint} (known: {', '.join(known)})"
        )


def check_meanings(columns: Mapping[str, str], parameter: str) -> None:
    """Check what the columns of a user are said to mean.

    Raises:
        DataError: If a meaning is not known.
    """
    for meaning in columns:
        check_format(meaning, parameter, MEANINGS)


def _guess(sample: Sequence[Record], place: str) -> Recognised:
    if not sample:
        return Recognised("pairs", FORMATS["pairs"], "no record could be read")
    for name, form in FORMATS.items():
        fitting = [record for record in sample if form.fits(record)]
        if fitting and len(fitting) >= _MOST * len(sample):
            fields = form.fields(fitting[0])
            given = fields.used.copy()
            for need in {"prompt", *form.needs}:
                fields.get(need)
            columns = ", ".join(sorted(fields.used - given)) or "its fields"
            return Recognised(name, form, f"recognised by {columns}")
    for name, form in FORMATS.items():
        if any(map(form.fits, sample)):
            return Recognised(name, form, "recognised by some of its rows")
    found = sorted({str(key) for record in sample for key in record})[:12]
    raise DataError(
        f"{place}: no known format; its columns are {', '.join(found) or 'none'};"
        " name them, as in data.columns: {prompt: …, chosen: …, rejected: …}, or give"
        f" format= one of {', '.join(FORMATS)}"
    )


def _settled(
    form: Format, sample: Sequence[Record], preference: Reading | None
) -> tuple[Format, list[str]]:
    notes = []
    general = form.style.preference == "index" and form.shape is read_two
    if preference is not None:
        form = form.styled(preference=preference)
    elif general and "preference" not in form.needs:
        values = [form.fields(record).get("preference") for record in sample]
        reading = guess_reading([value for value in values if value is not None])
        form = form.styled(preference=reading)
        if any(value is not None for value in values):
            notes.append(f"the preference is read as {reading}")
    if _repeats(form, sample):
        form = form.styled(repeated=True)
        notes.append("the answers repeat the prompt, which is taken off")
    return form, notes


def _repeats(form: Format, sample: Sequence[Record]) -> bool:
    """Whether nearly all answers begin with the text of their prompt."""
    found = []
    for record in sample:
        fields = form.fields(record)
        prompt = fields.get("prompt")
        names = ("chosen", "rejected", "response_a", "response_b")
        texts = [text for name in names if (text := fields.get(name)) is not None]
        if isinstance(prompt, str) and prompt.strip() and len(texts) == 2:
            found.append(
                all(isinstance(text, str) and text.startswith(prompt) for text in texts)
            )
    return len(found) > 1 and sum(found) >= 0.9 * len(found)


def _check_columns(
    sample: Sequence[Record], columns: Mapping[str, str], place: str
) -> None:
    """A column of which no record has anything is a typing error."""
    for meaning, column in columns.items():
        reader = [Fields(record, {meaning: (column,)}) for record in sample]
        if sample and all(fields.get(meaning) is None for fields in reader):
            found = sorted({str(key) for record in sample for key in record})
            close = difflib.get_close_matches(column, found, 1)
            hint = f", did you mean {close[0]}?" if close else ""
            raise DataError(
                f"{place}: data.columns: {meaning}: no column {column}{hint} (found:"
                f" {', '.join(found[:12])})"
            )


def _named(columns: Mapping[str, str]) -> str:
    return ", ".join(f"{meaning}={column}" for meaning, column in columns.items())
