"""One record of preference data as it was found, and why it may be of no use."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

Record = dict[str, Any]


class DropReason(StrEnum):
    """Why a row of a preference file was not used."""

    missing_keys = "missing_keys"
    wrong_types = "wrong_types"
    empty_answer = "empty_answer"
    identical_answers = "identical_answers"
    histories_differ = "histories_differ"
    last_turn_not_assistant = "last_turn_not_assistant"
    duplicate = "duplicate"
    joined_annotations = "joined_annotations"
    conflicting_labels = "conflicting_labels"
    prompt_differs = "prompt_differs"
    invalid_utf8 = "invalid_utf8"
    invalid_json = "invalid_json"
    truncated_file = "truncated_file"
    tie = "tie"
    no_preference = "no_preference"
    too_few_answers = "too_few_answers"
    tool_turn = "tool_turn"
    not_text = "not_text"
    in_test_set = "in_test_set"
    in_validation_set = "in_validation_set"
    already_labelled = "already_labelled"


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
