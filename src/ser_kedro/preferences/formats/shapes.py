"""The shapes that preference data has, each as a function from a record to answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ser_kedro.preferences.formats.answers import Answers, check_asked
from ser_kedro.preferences.formats.dialogues import (
    Side,
    Style,
    read_prompt,
    source_of,
    with_prompt,
)
from ser_kedro.preferences.formats.fields import Fields
from ser_kedro.preferences.formats.turns import read_message, read_messages
from ser_kedro.preferences.formats.votes import Vote, as_number, read_vote
from ser_kedro.preferences.records import BadRow, DropReason


def read_pair(fields: Fields, style: Style) -> Answers:
    """Read ``chosen`` and ``rejected``; one of them may be several answers."""
    sides = {name: _answers(fields, name) for name in ("chosen", "rejected")}
    prompt = read_prompt(fields, needed=False)
    answers = with_prompt(fields, prompt, [*sides["chosen"], *sides["rejected"]], style)
    if style.blind:
        return answers
    first = _soft(fields)
    return replace(
        answers,
        scores=(first,) * len(sides["chosen"]) + (1 - first,) * len(sides["rejected"]),
        probability=max(first, 1 - first),
        margin=_margin(fields),
    )


def read_two(fields: Fields, style: Style) -> Answers:
    """Read ``response_a`` and ``response_b`` and what says which is better."""
    sides = [
        side for name in ("response_a", "response_b") for side in _answers(fields, name)
    ]
    prompt = read_prompt(fields, needed=False)
    answers = with_prompt(fields, prompt, sides, style)
    vote = _vote(fields, style)
    if vote is None:
        return answers
    return replace(
        answers,
        scores=(vote.first, 1 - vote.first),
        probability=max(vote.first, 1 - vote.first),
        margin=vote.margin,
    )


def read_several(fields: Fields, style: Style) -> Answers:
    """Read ``responses``: texts, or objects with a text and perhaps a score.

    Answers without a text or a finite score are left out where there are scores.
    """
    items = fields.need("responses")
    if not isinstance(items, list):
        raise BadRow(DropReason.wrong_types, "the answers are no list")
    texts = [_text_of(fields, item) for item in items]
    scores = [None] * len(texts) if style.blind else _scores(fields, items, style)
    scored = any(score is not None for score in scores)
    kept = [
        (text, score)
        for text, score in zip(texts, scores, strict=True)
        if text.strip() and (score is not None or not scored)
    ]
    if len(kept) < 2:
        raise BadRow(
            DropReason.too_few_answers,
            f"{len(kept)} of {len(items)} answers have a text and a score; 2 needed",
        )
    prompt = read_prompt(fields)
    answers = with_prompt(fields, prompt, [text for text, _ in kept], style)
    found = [score for _, score in kept if score is not None]
    return replace(answers, scores=tuple(found) if found else None)


def read_prompt_only(fields: Fields, style: Style) -> Answers:
    """Read a prompt without answers."""
    prompt = read_prompt(fields)
    check_asked(prompt.turns)
    return Answers(prompt.turns, (), None, source=source_of(fields))


def _answers(fields: Fields, name: str) -> list[Side]:
    """Return what stands under a name: mostly one answer, perhaps several texts."""
    value = fields.need(name)
    if isinstance(value, dict):
        return [(read_message(value, fields.called(name)),)]
    if not isinstance(value, list):
        return [fields.text(name)]
    if value and all(isinstance(item, str) for item in value):
        return list(value)
    return [read_messages(value, fields.called(name))]


def _vote(fields: Fields, style: Style) -> Vote | None:
    value = fields.get("preference")
    if style.blind:
        return None
    if value is not None:
        return read_vote(value, style.preference)
    numbers = [as_number(fields.get(name)) for name in ("score_a", "score_b")]
    if numbers[0] is None or numbers[1] is None:
        return None
    difference = numbers[0] - numbers[1]
    return read_vote(-difference if style.ranks else difference, "difference")


def _margin(fields: Fields) -> float | None:
    margin = as_number(fields.get("margin"))
    if margin is not None:
        return margin
    numbers = [as_number(fields.get(name)) for name in ("score_a", "score_b")]
    if numbers[0] is None or numbers[1] is None:
        return None
    return numbers[0] - numbers[1]


def _soft(fields: Fields) -> float:
    value = as_number(fields.get("probability"))
    if value is None:
        return 1.0
    if not 0 <= value <= 1:
        raise BadRow(
            DropReason.wrong_types,
            f"{fields.called('probability')}={value:g}: not in [0, 1]",
        )
    return value


def _scores(fields: Fields, items: list[Any], style: Style) -> list[float | None]:
    """Return the scores of a list of answers, higher is better."""
    column = fields.get("scores")
    if not isinstance(column, list):
        column = [None] * len(items)
    if len(column) != len(items):
        raise BadRow(
            DropReason.wrong_types, f"{len(items)} answers, but {len(column)} scores"
        )
    sign = -1.0 if style.ranks else 1.0
    numbers = [
        as_number(_score_of(fields, item) if given is None else given)
        for item, given in zip(items, column, strict=True)
    ]
    return [None if number is None else sign * number for number in numbers]


def _score_of(fields: Fields, item: Any) -> Any:
    inner = isinstance(item, dict)
    return Fields(item, fields.columns).get("score") if inner else None


def _text_of(fields: Fields, item: Any) -> str:
    """Return the text of an answer, which may be an object, or the last message."""
    if isinstance(item, str):
        return item
    if not isinstance(item, dict):
        raise BadRow(
            DropReason.wrong_types, "the answers are neither texts nor objects"
        )
    inner = Fields(item, fields.columns)
    value = inner.need("response")
    if isinstance(value, list) and value:
        return read_messages(value, inner.called("response"))[-1].content
    return inner.text("response")
