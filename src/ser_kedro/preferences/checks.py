"""The rules of tables of pairs, checked batch by batch."""

from __future__ import annotations

from functools import cache

import pandera.pandas as pandera
import pyarrow as pa
import pyarrow.compute as pc
from pandera.errors import SchemaError

from ser_kedro.errors import DataError

_RESPONSES = ("chosen", "rejected", "response_a", "response_b")


def check_pairs(batch: pa.RecordBatch, schema: pa.Schema) -> None:
    """Check a batch of pairs against what its schema cannot say.

    Nothing may be null but ``soft_label`` and ``margin``, which may be NaN. Texts (but
    for ``source``, ``key``, ``place`` and ``annotators``) and prompts may not be empty,
    a ``pair_id`` has 32 hexadecimal digits, and the two responses of a pair differ.

    Args:
        batch: Rows of any of the tables above.
        schema: The schema that they must have.

    Raises:
        DataError: If a row breaks a rule.
    """
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
    text, filled = pandera.Column(str), pandera.Check.str_length(min_value=1)
    special = {
        "pair_id": pandera.Column(str, pandera.Check.str_matches(r"\A[0-9a-f]{32}\Z")),
        "prompt": pandera.Column(int, pandera.Check.gt(0, error="an empty prompt")),
        **dict.fromkeys(("source", "key", "place", "annotators"), text),
        "a_is_chosen": pandera.Column(bool),
        "soft_label": pandera.Column(
            "float32", pandera.Check.in_range(0.5, 1), nullable=True
        ),
        "margin": pandera.Column("float32", nullable=True),
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
