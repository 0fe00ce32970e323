"""The known formats of preference data, each as a function from a record to pairs."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from ser_kedro.preferences.records import (
    BadRow,
    DropReason,
    Record,
    Turns,
    make_pair,
    present,
    read_dialogue,
    read_messages,
    read_prompt,
    read_text,
)
from ser_kedro.preferences.schema import Pair, prompt_key

__all__ = ["FORMATS", "BadRow", "DropReason", "Parser", "last_turn_only"]

Parser = Callable[[Record], Iterator[Pair]]


def last_turn_only(pair: Pair) -> Pair:
    """Return the pair with nothing but the last user turn as its prompt.

    It is still grouped by the first turn: pairs of one dialogue stay on one side.
    """
    return replace(pair, prompt=pair.prompt[-1:], key=prompt_key(pair.prompt))


def parse_pairs(record: Record) -> Iterator[Pair]:
    """Read ``prompt``, ``chosen``, ``rejected``, as TRL's trainers take them.

    Each may be a text or a list of messages. Without a ``prompt``, the answers must be
    whole dialogues. A text that reads "Human: ... Assistant: ..." is a dialogue, any
    other prompt one user message.

    Args:
        record: ``prompt`` (may be absent), ``chosen``, ``rejected``, ``source`` (may be
            absent).

    Yields:
        One pair.

    Raises:
        BadRow: If the record holds no usable pair.
    """
    answers = present(record, "chosen"), present(record, "rejected")
    if all(isinstance(answer, str) for answer in answers):
        yield _from_texts(record, *answers)
    elif all(isinstance(answer, list) for answer in answers):
        yield _from_messages(record, *answers)
    else:
        raise BadRow(
            DropReason.wrong_types,
            "chosen and rejected must both be texts or both lists of messages",
        )


def parse_hh(record: Record) -> Iterator[Pair]:
    r"""Read ``chosen`` and ``rejected``, the whole dialogues of raw HH-RLHF.

    Args:
        record: Two texts "\n\nHuman: ...\n\nAssistant: ..." with the same history.

    Yields:
        One pair; the spaces after the last "Assistant:" are no part of the answers.

    Raises:
        BadRow: If the record holds no usable pair.
    """
    dialogues = []
    for key in ("chosen", "rejected"):
        turns = read_dialogue(read_text(record, key))
        if turns is None:
            raise BadRow(DropReason.wrong_types, f'{key} has no turn "Human: ..."')
        dialogues.append(turns)
    yield _from_dialogues(record, *dialogues)


def parse_ser(record: Record) -> Iterator[Pair]:
    """Read ``question``, ``response_j`` (the preferred one) and ``response_k``.

    Args:
        record: Three texts.

    Yields:
        One pair.

    Raises:
        BadRow: If the record holds no usable pair.
    """
    prompt, _ = read_prompt(record, "question")
    chosen, rejected = read_text(record, "response_j"), read_text(record, "response_k")
    yield make_pair(record, prompt, chosen, rejected)


def parse_scored(record: Record) -> Iterator[Pair]:
    """Read scored answers, as in UltraFeedback: the best against a lower one.

    Which lower one depends on the texts alone, not on their order. Answers without a
    text or a finite score are left out.

    Args:
        record: ``prompt`` or ``instruction``, and under ``responses``, ``completions``
            or ``answers`` a list of objects with a text (``response``, ``text``,
            ``content``) and a score (``score``, ``overall_score``, ``rating``).

    Yields:
        One pair.

    Raises:
        BadRow: If the record holds no usable pair, with the reason ``tie`` where no
            answer is lower than the best.
    """
    prompt, _ = read_prompt(record, "prompt", "instruction")
    answers = present(record, "responses", "completions", "answers")
    scores = ("score", "overall_score", "rating")
    yield _best_against_lower(
        record, prompt, _scored(answers, ("response", "text", "content"), scores)
    )


def parse_upvoted(record: Record) -> Iterator[Pair]:
    """Read up-voted answers (stack-exchange-preferences), as ``parse_scored`` does.

    Args:
        record: ``question``, and ``answers``: objects with ``text`` and ``pm_score``.

    Yields:
        One pair.

    Raises:
        BadRow: As ``parse_scored``.
    """
    prompt, _ = read_prompt(record, "question")
    answers = _scored(present(record, "answers"), ("text",), ("pm_score",))
    yield _best_against_lower(record, prompt, answers)


FORMATS: dict[str, Parser] = {
    "pairs": parse_pairs,
    "hh": parse_hh,
    "ser": parse_ser,
    "scored": parse_scored,
    "upvoted": parse_upvoted,
}


def _from_texts(record: Record, chosen: str, rejected: str) -> Pair:
    if record.get("prompt") is not None:
        prompt, dialogue = read_prompt(record, "prompt")
        if dialogue:
            chosen, rejected = chosen.lstrip(" "), rejected.lstrip(" ")
        return make_pair(record, prompt, chosen, rejected)
    dialogues = read_dialogue(chosen), read_dialogue(rejected)
    if dialogues[0] is None or dialogues[1] is None:
        # Where the common beginning of two plain texts ends, nobody can say.
        raise BadRow(
            DropReason.missing_keys,
            'no prompt, and chosen and rejected are no dialogues "Human: ...'
            ' Assistant: ..." from which it could be read',
        )
    return _from_dialogues(record, dialogues[0], dialogues[1])


def _from_messages(record: Record, chosen: list[Any], rejected: list[Any]) -> Pair:
    sides = read_messages(chosen, "chosen"), read_messages(rejected, "rejected")
    whole = all(side[0].role != "assistant" for side in sides)
    if not whole:
        # Answers alone. (Where they are whole dialogues a prompt only repeats them.)
        prompt, _ = read_prompt(record, "prompt")
        sides = prompt + sides[0], prompt + sides[1]
    return _from_dialogues(record, *sides)


def _from_dialogues(record: Record, chosen: Turns, rejected: Turns) -> Pair:
    for key, turns in (("chosen", chosen), ("rejected", rejected)):
        if turns[-1].role != "assistant":
            raise BadRow(
                DropReason.last_turn_not_assistant,
                f"{key} ends with a turn of the {turns[-1].role}",
            )
    if chosen[:-1] != rejected[:-1]:
        raise BadRow(
            DropReason.histories_differ,
            "chosen and rejected differ before their last turn",
        )
    return make_pair(record, chosen[:-1], chosen[-1].content, rejected[-1].content)


def _scored(
    answers: Any, texts: Sequence[str], scores: Sequence[str]
) -> list[tuple[str, float]]:
    if not isinstance(answers, list) or not all(isinstance(a, dict) for a in answers):
        raise BadRow(DropReason.wrong_types, "the answers are no list of objects")
    found = []
    for answer in answers:
        text, score = read_text(answer, *texts), _score(present(answer, *scores))
        if text.strip() and score is not None:
            found.append((text, score))
    if len(found) < 2:
        raise BadRow(
            DropReason.empty_answer,
            f"{len(found)} of {len(answers)} answers have a text and a score; 2 needed",
        )
    return found


def _score(value: Any) -> float | None:
    # Some judges wrote "N/A", or the number as a text.
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        score = float(value)
    except (ValueError, OverflowError):
        return None
    return score if math.isfinite(score) else None


def _best_against_lower(
    record: Record, prompt: Turns, answers: list[tuple[str, float]]
) -> Pair:
    if len({text.strip() for text, _ in answers}) < 2:
        raise BadRow(DropReason.identical_answers, "all answers are the same")
    top = max(score for _, score in answers)
    best = {text.strip(): text for text, score in sorted(answers) if score == top}
    lower = [text for text, score in answers if score < top]
    lower = [text for text in lower if text.strip() not in best]
    if not lower:
        raise BadRow(DropReason.tie, f"no answer scores lower than {top:g}")

    def draw(text: str) -> tuple[bytes, str]:
        turns = [[turn.role, turn.content] for turn in prompt]
        # ASCII: half a surrogate pair must get as far as the check for it.
        key = json.dumps([turns, text]).encode("ascii")
        return hashlib.sha256(key).digest(), text

    return make_pair(record, prompt, min(best.values(), key=draw), min(lower, key=draw))
