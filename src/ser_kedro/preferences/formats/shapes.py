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
    texts, scores = _texts_and_scores(fields, items, style)
    if style.blind:
        scores = [None] * len(texts)
    kept = [
        (text, score)
        for text, score in zip(texts, scores, strict=True)
        if text.strip() and (score is not None or not any_scored(scores))
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


def any_scored(scores: list[float | None]) -> bool:
    """Whether one of the scores is there."""
    return any(score is not None for score in scores)


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


def _texts_and_scores(
    fields: Fields, items: list[Any], style: Style
) -> tuple[list[str], list[float | None]]:
    """Return the answers of a list and their scores, higher is better."""
    column = fields.get("scores")
    if isinstance(column, list) and len(column) != len(items):
        raise BadRow(
            DropReason.wrong_types, f"{len(items)} answers, but {len(column)} scores"
        )
    texts, values = [], []
    for number, item in enumerate(items):
        inner = Fields(item, fields.columns) if isinstance(item, dict) else None
        texts.append(item if isinstance(item, str) else _text_of(inner))
        value = column[number] if isinstance(column, list) else None
        if value is None and inner is not None:
            value = inner.get("score")
        values.append(as_number(value))
    sign = -1.0 if style.ranks else 1.0
    return texts, [None if value is None else sign * value for value in values]


def _text_of(inner: Fields | None) -> str:
    if inner is None:
        raise BadRow(
            DropReason.wrong_types, "the answers are neither texts nor objects"
        )
    value = inner.need("response")
    if isinstance(value, list) and value:
        return read_messages(value, inner.called("response"))[-1].content
    return inner.text("response")
