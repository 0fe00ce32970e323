"""The schema of preference pairs, as Arrow tables and as Pandera models."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    pass

MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string())])
PROMPT = pa.list_(MESSAGE)

PROMPTS = pa.schema([("group", pa.string()), ("prompt", PROMPT)])
PAIRS = pa.schema(
    [
        ("pair_id", pa.string()),
        ("group", pa.string()),
        ("prompt", PROMPT),
        ("chosen", pa.string()),
        ("rejected", pa.string()),
        ("source", pa.string()),
    ]
)
# What people said: P(chosen is better), in (0.5, 1]; the margin, NaN if not said; and
# the names of those who said it, where the data have them.
LABELED = pa.schema(
    [
        *PAIRS,
        pa.field("soft_label", pa.float32()),
        pa.field("margin", pa.float32()),
        pa.field("annotators", pa.string()),
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

_KEY_LENGTH = 16
_RESPONSES = ("chosen", "rejected", "response_a", "response_b")


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
        probability: That ``chosen`` is the better one, above 0.5 and at most 1;
            ``None`` where nothing is known, and the two are in no order.
        margin: By how much it is better, on the data's own scale, where it is said.
        annotator: Who said so, where it is known; no part of its identity.
        repairs: What was done to read it, by name; no part of it either.
        first: Whether ``chosen`` stood before ``rejected``; no part of it either.
        key: What its prompt is grouped by, where that is not its first user turn; no
            part of the pair's identity.
        place: File and line it was read from, where it was; no part of it either.
    """

    prompt: tuple[Message, ...]
    chosen: str
    rejected: str
    source: str = ""
    probability: float | None = 1.0
    margin: float | None = None
    annotator: str = field(default="", compare=False)
    repairs: tuple[str, ...] = field(default=(), compare=False)
    first: bool = field(default=True, compare=False)
    key: str | None = field(default=None, compare=False)
    place: str = field(default="", compare=False)

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


@dataclass(frozen=True, slots=True)
class LonePrompt:
    """A prompt of a pool, without answers.

    Attributes:
        prompt: The dialogue; its last turn is the user's.
        source: Where it is from; free text.
        repairs: As of a pair.
        key: As of a pair.
        place: As of a pair.
    """

    prompt: tuple[Message, ...]
    source: str = ""
    repairs: tuple[str, ...] = field(default=(), compare=False)
    key: str | None = field(default=None, compare=False)
    place: str = field(default="", compare=False)

    @property
    def pair_id(self) -> str:
        """Identity of the prompt: 32 hexadecimal digits."""
        turns = [[turn.role, turn.content] for turn in self.prompt]
        text = json.dumps(turns, ensure_ascii=False)
        return hashlib.sha256(text.encode("utf-8")).hexdigest()[:32]


def prompt_key(prompt: Sequence[Message]) -> str:
    """Return the text by which a prompt is grouped: its first user turn.

    Dialogues that start with the same question and go on differently belong together.
    A greeting is no question: while there are fewer than 16 letters and digits, the
    next user turn is added.
    """
    turns = [turn.content for turn in prompt if turn.role == "user"]
    if not turns:
        return prompt[0].content if prompt else ""
    key = turns[0]
    for turn in turns[1:]:
        if sum(map(str.isalnum, key)) >= _KEY_LENGTH:
            break
        key = f"{key}\n{turn}"
    return key
