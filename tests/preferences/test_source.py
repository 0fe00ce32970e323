from __future__ import annotations

import json

import fsspec
import pytest
from pydantic import ValidationError

from ser_kedro.errors import DataError
from ser_kedro.preferences.demo_world.world import WorldParams
from ser_kedro.preferences.records import DropReason
from ser_kedro.preferences.schema import Message, Pair
from ser_kedro.preferences.source import Dropped, PreferenceSource

ROW = {"question": "Why?", "response_j": "g", "response_k": "b"}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(ROW) + "\n{\n" + json.dumps({"question": 1}) + "\n")
    return path


class TestPairs:
    def test_pairs_and_what_is_dropped_between_them(self, path):
        source = PreferenceSource(format="ser", path=str(path))

        pair, *dropped = source.pairs("train")

        assert pair == Pair((Message("user", "Why?"),), "g", "b")
        assert all(isinstance(item, Dropped) for item in dropped)
        assert [(item.place, item.reason) for item in dropped] == [
            ("a.jsonl:2", DropReason.invalid_json),
            ("a.jsonl:3", DropReason.missing_keys),
        ]

    def test_single_turn(self, tmp_path):
        path = tmp_path / "a.jsonl"
        history = "Human: Why?\n\nAssistant: So.\n\nHuman: Really?\n\nAssistant:"
        row = {"prompt": history, "chosen": "g", "rejected": "b"}
        path.write_text(json.dumps(row))

        source = PreferenceSource(format="pairs", path=str(path), single_turn=True)

        (pair,) = source.pairs("train")
        assert pair.prompt == (Message("user", "Really?"),)

    def test_test_part(self, path, tmp_path):
        without = PreferenceSource(format="ser", path=str(path))
        test = tmp_path / "t.jsonl"
        test.write_text(json.dumps(ROW))
        both = PreferenceSource(format="ser", path=str(path), test_path=str(test))

        assert not without.has_test
        with pytest.raises(DataError, match="test"):
            without.pairs("test")
        assert both.has_test
        assert len(list(both.pairs("test"))) == 1

    def test_relative_path_starts_at_the_project(self, path, tmp_path, monkeypatch):
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        monkeypatch.chdir(elsewhere)
        monkeypatch.setenv("SER_KEDRO_PROJECT", str(tmp_path))

        source = PreferenceSource(format="ser", path="a.jsonl")

        assert len(list(source.pairs("train"))) == 3
        assert source.exists()

    def test_demo_world_needs_no_file(self):
        world = WorldParams(pairs=3, test_pairs=2)

        source = PreferenceSource(format="demo_world", world=world)

        assert source.has_test
        assert len(list(source.pairs("train"))) == 3
        assert len(list(source.pairs("test"))) == 2


class TestIdentity:
    def test_stands_for_the_content_not_the_place(self, path, tmp_path):
        copy = tmp_path / "folder" / "b.jsonl"
        copy.parent.mkdir()
        copy.write_bytes(path.read_bytes())
        identity = PreferenceSource(format="ser", path=str(path)).identity

        for place in (copy, copy.parent, f"file://{copy}"):
            assert PreferenceSource(format="ser", path=str(place)).identity == identity

        path.write_text(json.dumps({**ROW, "response_k": "c"}))
        changed = PreferenceSource(format="ser", path=str(path)).identity
        assert changed != identity

    def test_options_count(self, path):
        where = str(path)
        sources = [
            PreferenceSource(format="ser", path=where),
            PreferenceSource(format="pairs", path=where),
            PreferenceSource(format="ser", path=where, single_turn=True),
            PreferenceSource(format="ser", path=where, test_path=where),
            PreferenceSource(format="demo_world"),
            PreferenceSource(format="demo_world", world=WorldParams(seed=1)),
            PreferenceSource(format="ser", path="hub://o/n?revision=1"),
            PreferenceSource(format="ser", path="hub://o/n?revision=2"),
        ]

        assert len({source.identity for source in sources}) == len(sources)

    def test_default_world_is_the_world(self):
        named = PreferenceSource(format="demo_world", world=WorldParams())

        assert PreferenceSource(format="demo_world").identity == named.identity

    def test_url_counts_by_what_its_file_system_says(self):
        memory = fsspec.filesystem("memory")
        source = PreferenceSource(format="ser", path="memory://identity/a.jsonl")

        memory.pipe("/identity/a.jsonl", b"{}")
        before = source.identity
        again = source.identity
        memory.pipe("/identity/a.jsonl", b'{"a": 1}')

        assert before == again != source.identity

    def test_missing_file(self, tmp_path):
        source = PreferenceSource(format="ser", path=str(tmp_path / "no.jsonl"))

        assert not source.exists()
        with pytest.raises(DataError, match="no such file"):
            _ = source.identity


class TestErrors:
    def test_unknown_format_names_the_known_ones_and_the_closest(self):
        with pytest.raises(DataError, match=r"did you mean pairs\?.*hh.*demo_world"):
            PreferenceSource(format="pair", path="a.jsonl")

    @pytest.mark.parametrize(
        "fields",
        [
            {"format": "hh"},
            {"format": "demo_world", "path": "mine.jsonl"},
            {"format": "hh", "path": "a.jsonl", "world": {}},
        ],
    )
    def test_fields_that_do_not_fit_together(self, fields):
        with pytest.raises(DataError):
            PreferenceSource(**fields)

    def test_unknown_field(self):
        with pytest.raises(ValidationError):
            PreferenceSource(format="hh", path="a.jsonl", shuffle=True)
