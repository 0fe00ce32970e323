"""The schema of preference pairs, as Arrow tables and as Pandera models."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import pyarrow as pa

MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string())])
PROMPT = pa.list_(MESSAGE)

PROMPTS = pa.schema([("group", pa.string()), ("prompt", PROMPT)])
LABELED = pa.schema(
    [
        ("pair_id", pa.string()),
        ("group", pa.string()),
        ("prompt", PROMPT),
        ("chosen", pa.string()),
        ("rejected", pa.string()),
        ("source", pa.string()),
    ]
)
UNLABELED = pa.schema(
    [
        ("pair_id", pa.string()),
        ("group", pa.string()),
        ("prompt", PROMPT),
        ("response_a", pa.string()),
        ("response_b", pa.string()),
        ("source", pa.string()),
    ]
)
AUDIT = pa.schema([("pair_id", pa.string()), ("a_is_chosen", pa.bool_())])


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a dialogue; ``role`` is ``system``, ``user`` or ``assistant``."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Pair:
    """A prompt, two responses to it, and which of them was preferred.

    Attributes:
        prompt: The dialogue up to the response; its last turn is the user's.
        chosen: The preferred response, not empty.
        rejected: The other response, not empty, not equal to ``chosen``.
        source: Where the pair is from; free text.
    """

    prompt: tuple[Message, ...]
    chosen: str
    rejected: str
    source: str = ""

    @property
    def pair_id(self) -> str:
        """Identity of the *unordered* pair: 32 hexadecimal digits.

        It does not depend on which response was preferred, so whatever is keyed on it
        (split, order of the responses) cannot carry the label.
        """
        turns = [[turn.role, turn.content] for turn in self.prompt]
        content = [turns, sorted((self.chosen, self.rejected))]
        text = json.dumps(content, ensure_ascii=False)
        return hashlib.sha256(text.encode("utf-8")).hexdigest()[:32]
