"""The schema of preference pairs, as Arrow tables and as Pandera models."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from ser_kedro.errors import DataError

if TYPE_CHECKING:
    import pandera.pandas as pandera

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
        key: What its prompt is grouped by, where that is not its first user turn; no
            part of the pair's identity.
        place: File and line it was read from, where it was; no part of it either.
    """

    prompt: tuple[Message, ...]
    chosen: str
    rejected: str
    source: str = ""
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


def check_pairs(batch: pa.RecordBatch, schema: pa.Schema) -> None:
    """Check a batch of pairs against what its schema cannot say.

    Nothing may be null, texts (but for ``source``, ``key`` and
    ``place``) and prompts may not be empty, a
    ``pair_id`` has 32 hexadecimal digits, and the two responses of a pair differ.

    Args:
        batch: Rows of any of the tables above.
        schema: The schema that they must have.

    Raises:
        DataError: If a row breaks a rule.
    """
    from pandera.errors import SchemaError

    if not batch.schema.equals(schema):
        expected = ", ".join(schema.names)
        raise DataError(f"a table of pairs must have the columns {expected}")
    frame = batch.select([n for n in schema.names if n != "prompt"]).to_pandas()
    if "prompt" in schema.names:
        turns = pc.fill_null(pc.list_value_length(batch["prompt"]), 0)
        frame["prompt"] = turns.cast(pa.int64()).to_numpy(zero_copy_only=False)
    try:
        _rules(tuple(schema.names)).validate(frame)
    except SchemaError as error:
        text = " ".join(str(error).split())[:300]
        raise DataError(f"a table of pairs is invalid: {text}") from error


@cache
def _rules(names: tuple[str, ...]) -> pandera.DataFrameSchema:
    import pandera.pandas as pandera

    text, filled = pandera.Column(str), pandera.Check.str_length(min_value=1)
    special = {
        "pair_id": pandera.Column(str, pandera.Check.str_matches(r"\A[0-9a-f]{32}\Z")),
        "prompt": pandera.Column(int, pandera.Check.gt(0, error="an empty prompt")),
        **dict.fromkeys(("source", "key", "place"), text),
        "a_is_chosen": pandera.Column(bool),
    }
    columns = {n: special.get(n, pandera.Column(str, filled)) for n in names}
    responses = [n for n in names if n in _RESPONSES]
    differ = [
        pandera.Check(
            lambda frame: frame[responses[0]] != frame[responses[1]],
            error="both responses are the same",
        )
    ]
    return pandera.DataFrameSchema(columns, checks=differ if responses else [])


def prompt_key(prompt: Sequence[Message]) -> str:
    """Return the text by which a prompt is grouped: its first user turn.

    Dialogues that start with the same question and go on differently belong together.
    """
    for turn in prompt:
        if turn.role == "user":
            return turn.content
    return prompt[0].content if prompt else ""
