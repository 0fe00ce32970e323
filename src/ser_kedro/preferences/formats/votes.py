"""Preferences between two answers, in all the ways in which people write them down."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from ser_kedro.preferences.records import BadRow, DropReason

Reading = Literal[
    "name", "index", "index_from_1", "difference", "difference_b", "is_a", "probability"
]

_FIRST = {
    *("a", "first", "left", "1st", "model_a", "response_a", "answer_a", "a_is_better"),
    *("response_1", "response1", "answer1", "answer_1", "output_1", "a>b", "a>>b"),
    *("chosen_a", "option_a", "completion_a", "text1", "response 1", "response a"),
}
_SECOND = {
    *(
        "b",
        "second",
        "right",
        "2nd",
        "model_b",
        "response_b",
        "answer_b",
        "b_is_better",
    ),
    *("response_2", "response2", "answer2", "answer_2", "output_2", "b>a", "b>>a"),
    *("a<b", "a<<b", "chosen_b", "option_b", "completion_b", "text2"),
    *("response 2", "response b"),
}
_FIRST |= {"b<a", "b<<a"}
_TIE = {
    *("tie", "tied", "draw", "equal", "same", "both", "neither", "a=b", "a==b", "b=a"),
    *("both good", "both bad", "tie (bothbad)", "bothbad", "both_bad", "both_good"),
    *("tie (both bad)", "no preference"),
}


@dataclass(frozen=True, slots=True)
class Vote:
    """What is known of two answers.

    Attributes:
        first: Probability that the first is the better one, in [0, 1]; 0.5 for a tie.
        margin: By how much one is better, where it is said; at least 0.
    """

    first: float
    margin: float | None = None


def read_vote(value: Any, reading: Reading) -> Vote:
    """Return what a value says about two answers.

    Args:
        value: A number, a name, or a list of these: one a person.
        reading: What a number means. ``index``: 0 is the first; ``index_from_1``: 1
            is the first; ``difference``: above 0 the first is better, by so much;
            ``difference_b``: above 0 the second; ``is_a``: 1 if the first is better;
            ``probability``: of the first. A text that is no number is a name.

    Raises:
        BadRow: If it says nothing.
    """
    if isinstance(value, list):
        votes = [read_vote(one, reading) for one in value if one not in (None, "")]
        if not votes:
            raise BadRow(DropReason.no_preference, "nobody gave a preference")
        return Vote(sum(vote.first for vote in votes) / len(votes))
    if isinstance(value, str):
        named = _named(value)
        if named is not None:
            return Vote(named)
    number = float(value) if isinstance(value, bool) else as_number(value)
    if number is None or reading == "name":
        raise BadRow(DropReason.no_preference, f"{value!r} names neither answer")
    vote = _NUMBERS[reading](number)
    if vote is None:
        raise BadRow(
            DropReason.no_preference, f"{value!r} is no preference read as {reading}"
        )
    return vote


def as_number(value: Any) -> float | None:
    """Return a finite number, also one that is written as a text; else ``None``."""
    # Some judges wrote "N/A", or the number as a text.
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def guess_reading(values: list[Any]) -> Reading:
    """Return what the numbers of a column mean, from some of its values."""
    flat = [
        v for value in values for v in (value if isinstance(value, list) else [value])
    ]
    found = {number for value in flat if (number := as_number(value)) is not None}
    if not found or any(isinstance(v, str) and _named(v) is not None for v in flat):
        return "name"
    if found <= {0.0, 1.0}:
        return "index"
    if found <= {1.0, 2.0}:
        return "index_from_1"
    if all(0 <= number <= 1 for number in found):
        return "probability"
    return "difference"


def _named(value: str) -> float | None:
    name = " ".join(value.strip().strip("[]'\"").casefold().replace("≫", ">>").split())
    if name in _TIE:
        return 0.5
    if name in _FIRST:
        return 1.0
    return 0.0 if name in _SECOND else None


def _by_sign(number: float) -> Vote:
    first = 0.5 if number == 0 else float(number > 0)
    return Vote(first, abs(number))


def _index(first: float) -> Callable[[float], Vote | None]:
    known = {first: 1.0, first + 1: 0.0}
    return lambda number: Vote(known[number]) if number in known else None


_NUMBERS: dict[Reading, Callable[[float], Vote | None]] = {
    "index": _index(0),
    "index_from_1": _index(1),
    "difference": _by_sign,
    "difference_b": lambda number: _by_sign(-number),
    "is_a": lambda number: Vote(number) if number in (0, 0.5, 1) else None,
    "probability": lambda number: Vote(number) if 0 <= number <= 1 else None,
}
