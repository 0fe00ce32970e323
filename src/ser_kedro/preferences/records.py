"""The fields of one record of preference data, and why a record may be of no use."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ser_kedro.preferences.schema import Message, Pair

Record = dict[str, Any]
Turns = tuple[Message, ...]

_ROLES = ("system", "user", "assistant")
_SPEAKERS = {"Human": "user", "Assistant": "assistant"}
_SPEAKER = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")


class DropReason(StrEnum):
    """Why a row of a preference file was not used."""

    missing_keys = "missing_keys"
    wrong_types = "wrong_types"
    empty_answer = "empty_answer"
    identical_answers = "identical_answers"
    histories_differ = "histories_differ"
    last_turn_not_assistant = "last_turn_not_assistant"
    duplicate = "duplicate"
    conflicting_labels = "conflicting_labels"
    invalid_utf8 = "invalid_utf8"
    invalid_json = "invalid_json"
    truncated_file = "truncated_file"
    tie = "tie"
    in_test_set = "in_test_set"


class BadRow(Exception):
    """A record does not hold a usable pair."""

    def __init__(self, reason: DropReason, detail: str) -> None:
        """Say why, for the count, and what exactly, for the reader of the message."""
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Raw:
    """One record as it was found, or why there is none.

    Attributes:
        place: File and line (record, in JSON and Parquet), such as ``a.jsonl.gz:17``.
        record: The record; ``None`` where it could not be read.
        reason: Why it could not be read.
        detail: The same in words, for a message.
    """

    place: str
    record: dict[str, Any] | None
    reason: DropReason | None = None
    detail: str = ""


def first_line(error: BaseException) -> str:
    """Return an error as one short line."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:200]}"


def present(record: Record, *keys: str) -> Any:
    """Return the value of the first of ``keys`` that is there and not null.

    Raises:
        BadRow: If none is.
    """
    for key in keys:
        if record.get(key) is not None:
            return record[key]
    found = ", ".join(sorted(map(str, record))[:8]) or "nothing"
    raise BadRow(DropReason.missing_keys, f"no {' or '.join(keys)}; found: {found}")


def read_text(record: Record, *keys: str) -> str:
    """Return the text under the first of ``keys`` that is there.

    Raises:
        BadRow: If none is, or it is no text.
    """
    value = present(record, *keys)
    if not isinstance(value, str):
        kind = type(value).__name__
        raise BadRow(DropReason.wrong_types, f"{' or '.join(keys)} is {kind}, not text")
    return value


def read_prompt(record: Record, *keys: str) -> tuple[Turns, bool]:
    """Return the turns of a prompt, and whether it was a dialogue in one text.

    Raises:
        BadRow: If the prompt is missing, empty, or neither a text nor messages.
    """
    value = present(record, *keys)
    if isinstance(value, list):
        return read_messages(value, keys[0]), False
    text = read_text(record, *keys)
    if not text.strip():
        raise BadRow(DropReason.missing_keys, f"{' or '.join(keys)} is empty")
    turns = read_dialogue(text)
    if turns is None:
        return (Message("user", text),), False
    # The "Assistant:" at the end only asks for the answer.
    asks = turns[-1].role == "assistant" and not turns[-1].content.strip()
    return (turns[:-1] if asks else turns), True


def read_dialogue(text: str) -> Turns | None:
    """Return the turns of "Human: ... Assistant: ...", or ``None`` for other texts."""
    head, *rest = _SPEAKER.split(text)
    if head or not rest:
        return None
    spoken = zip(rest[::2], rest[1::2], strict=True)
    return tuple(Message(_SPEAKERS[who], said.lstrip(" ")) for who, said in spoken)


def read_messages(value: list[Any], key: str) -> Turns:
    """Return the turns of a list of chat messages, found under ``key``.

    Raises:
        BadRow: If the list is empty or holds anything else.
    """
    turns = []
    for item in value:
        message = item if isinstance(item, dict) else {}
        role, content = message.get("role"), message.get("content")
        if role not in _ROLES or not isinstance(content, str):
            raise BadRow(
                DropReason.wrong_types,
                f"{key} must hold messages with a role ({', '.join(_ROLES)}) and a"
                " text as content",
            )
        turns.append(Message(role, content))
    if not turns:
        raise BadRow(DropReason.missing_keys, f"{key} is an empty list")
    return tuple(turns)


def make_pair(record: Record, prompt: Turns, chosen: str, rejected: str) -> Pair:
    """Return the pair, with the record's ``source``, once it is known to be usable.

    Raises:
        BadRow: If the prompt does not end with the user's turn, or an answer is empty,
            or both are the same, apart from white space around them.
    """
    if not prompt or prompt[-1].role != "user":
        raise BadRow(
            DropReason.last_turn_not_assistant, "the answers follow no turn of the user"
        )
    for key, answer in (("chosen", chosen), ("rejected", rejected)):
        if not answer.strip():
            raise BadRow(DropReason.empty_answer, f"the {key} answer is empty")
    if chosen.strip() == rejected.strip():
        raise BadRow(DropReason.identical_answers, "both answers are the same")
    source = record.get("source")
    source = source if isinstance(source, str) else ""
    _check_encodable(*(turn.content for turn in prompt), chosen, rejected, source)
    return Pair(prompt, chosen, rejected, source)


def _check_encodable(*texts: str) -> None:
    # JSON can spell half a surrogate pair ("\ud83d"), which no file can hold.
    try:
        for text in texts:
            text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise BadRow(
            DropReason.invalid_utf8, f"half a surrogate pair at character {error.start}"
        ) from None
