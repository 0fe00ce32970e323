"""Every example of docs/data.md is read as the page says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ser_kedro.preferences.formats.reader import Dropped
from ser_kedro.preferences.formats.table import FORMATS, MEANINGS
from ser_kedro.preferences.records import DropReason
from ser_kedro.preferences.schema import LonePrompt, Pair
from ser_kedro.preferences.source import PreferenceSource

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text("utf-8")
SECTION = PAGE[PAGE.index("<!-- formats -->") : PAGE.index("<!-- end of formats -->")]
EXAMPLES = dict(
    re.findall(r"^\*\*(\w+)\*\*.*?```json\n(.*?)```", SECTION, re.DOTALL | re.MULTILINE)
)


def test_every_format_is_there():
    assert set(EXAMPLES) == set(FORMATS)


def test_every_meaning_and_reason_is_there():
    assert [name for name in (*MEANINGS, *DropReason) if f"`{name}`" not in PAGE] == []


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_are_recognised_and_read(tmp_path, name):
    path = tmp_path / "a.jsonl"
    path.write_text(EXAMPLES[name])
    reader = PreferenceSource(path=str(path), pool_path=str(path)).read(
        "pool" if name == "prompts" else "train"
    )

    found = list(reader)

    known = {"hh": "pairs"}.get(name, name)
    assert reader.recognised.name == known
    assert not [item for item in found if isinstance(item, Dropped)]
    texts = [
        (item.prompt[-1].content, item.chosen)
        for item in found
        if isinstance(item, Pair)
    ]
    expected = {"Why?": "So.", "Who?": "Me.", "Why is the sky blue?": "Air scatters"}
    assert all(answer.startswith(expected[asked]) for asked, answer in texts)
    assert len(found) == (1 if FORMATS[name].joined else 2)
    assert name != "prompts" or all(isinstance(item, LonePrompt) for item in found)


def test_rows_of_a_pool(tmp_path):
    (example,) = re.findall(r"A row has .*?```json\n(.*?)```", PAGE, re.DOTALL)
    rows = [json.loads(line) for line in example.splitlines()]
    for number, row in enumerate(rows):
        path = tmp_path / f"{number}.jsonl"
        path.write_text(json.dumps(row))
        source = PreferenceSource(path=str(path), pool_path=str(path))

        (pair,) = source.pairs("pool")

        assert pair.probability is None
