from __future__ import annotations

import json

import pytest

from ser_kedro.errors import DataError
from ser_kedro.preferences.files.find import (
    Unread,
    find_files,
    read_records,
    unread_files,
)

CARD = """---
license: mit
configs:
- config_name: pairs
  default: true
  data_files:
  - split: train
    path: data/a-*
  - split: test
    path:
    - data/b-*
    - more/**
- config_name: raw
  data_files: raw/*.jsonl
---
# A card
"""


def make(tmp_path, *names, card=None):
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"name": name}))
    if card:
        (tmp_path / "README.md").write_text(card)
    return str(tmp_path)


def names(place, part="train"):
    return [raw.record["name"] for raw in read_records(place, part)]


def shard(name):
    return f"data/{name}-00000-of-00001.jsonl"


class TestSplits:
    @pytest.mark.parametrize(
        ("train", "test", "other"),
        [
            (shard("train"), shard("test"), shard("validation")),
            ("train.jsonl", "test.jsonl", "dev.jsonl"),
            ("hh-train.json", "hh_test.json", "hh val.json"),
            ("train/0.jsonl", "test/0.jsonl", "valid/0.jsonl"),
            ("train1.jsonl", "eval1.jsonl", "dev1.jsonl"),
            ("a/Training.jsonl", "a/evaluation.jsonl", "a/val.jsonl"),
            (shard("train_prefs"), shard("test_prefs"), shard("validation")),
        ],
    )
    def test_train_is_for_training_and_test_for_testing(
        self, tmp_path, train, test, other
    ):
        place = make(tmp_path, train, test, other)

        assert names(place) == names(f"{place}?split=train") == [train]
        assert names(place, "test") == names(f"{place}?split=test") == [test]
        assert names(f"{place}?split=validation") == [other]
        assert names(f"{place}?split=dev") == [other]
        (reason,) = {reason for name, reason in unread_files(place) if name == other}
        assert reason == "another split (validation)"

    @pytest.mark.parametrize("part", ["train", "test"])
    @pytest.mark.parametrize(
        "files",
        [
            ["a.jsonl", "b.jsonl"],
            ["test/a.jsonl", "test/b.jsonl"],
            ["a-train.jsonl", "b-train.jsonl"],
            ["more.jsonl", "train.jsonl"],
            ["contest.jsonl", "trainer.jsonl"],
        ],
    )
    def test_one_split_is_read_whole(self, tmp_path, files, part):
        assert names(make(tmp_path, *files), part) == files

    def test_all_files_of_the_split_are_read(self, tmp_path):
        train = ["base/train.jsonl", "online/train.jsonl"]
        place = make(tmp_path, *train, "base/test.jsonl", "odd/attempts.jsonl")

        assert names(place) == train
        assert unread_files(place) == [
            ("base/test.jsonl", "another split (test)"),
            (
                "odd/attempts.jsonl",
                "no split in its name, beside files of the split train",
            ),
        ]

    def test_files_without_a_split_beside_test_files_are_for_training(self, tmp_path):
        place = make(tmp_path, "pairs.jsonl", "test.jsonl")

        assert names(place) == ["pairs.jsonl"]
        assert names(place, "test") == ["test.jsonl"]

    def test_a_choice_is_asked_for(self, tmp_path):
        place = make(tmp_path, shard("train_prefs"), shard("train_sft"), shard("test"))

        with pytest.raises(DataError, match=r"\?split=train_prefs") as caught:
            read_records(place)

        assert "test, train_prefs, train_sft" in str(caught.value)
        assert names(f"{place}?split=train_sft") == [shard("train_sft")]

    def test_split_that_is_not_there(self, tmp_path):
        place = make(tmp_path, "train.jsonl", "test.jsonl")

        with pytest.raises(DataError, match=r"no files are of the split validation"):
            read_records(f"{place}?split=dev")
        with pytest.raises(DataError, match=r"names a split; leave \?split=test out"):
            read_records(make(tmp_path / "other", "a.jsonl") + "?split=test")

    @pytest.mark.parametrize("query", ["?spilt=test", "?split", "?"])
    def test_unknown_option(self, tmp_path, query):
        with pytest.raises(DataError, match=r"write FOLDER\?split=test"):
            read_records(make(tmp_path, "a.jsonl") + query)

    def test_file_with_a_question_mark_in_its_name(self, tmp_path):
        place = make(tmp_path, "a?split=test.jsonl")

        assert names(f"{place}/a?split=test.jsonl") == ["a?split=test.jsonl"]


class TestCard:
    FILES = ("data/a-1.jsonl", "data/b-1.jsonl", "more/x/c.jsonl", "raw/d.jsonl")

    def test_default_subset(self, tmp_path):
        place = make(tmp_path, *self.FILES, card=CARD)

        assert names(place) == ["data/a-1.jsonl"]
        assert names(place, "test") == ["data/b-1.jsonl", "more/x/c.jsonl"]
        assert ("raw/d.jsonl", "not in the data_files of README.md (pairs)") in (
            unread_files(place)
        )

    def test_other_subset(self, tmp_path):
        place = make(tmp_path, *self.FILES, card=CARD)

        assert names(f"{place}?subset=raw") == ["raw/d.jsonl"]
        assert names(f"{place}?subset=pairs&split=train") == ["data/a-1.jsonl"]

    def test_subset_must_be_known_or_chosen(self, tmp_path):
        card = CARD.replace("  default: true\n", "")
        place = make(tmp_path, *self.FILES, card=card)

        with pytest.raises(DataError, match=r"\(pairs, raw\); choose .*\?subset=pairs"):
            read_records(place)
        with pytest.raises(DataError, match="no subset odd in its README.md"):
            read_records(f"{place}?subset=odd")

    @pytest.mark.parametrize(
        "card",
        ["# no head", "---\na: [\n---\n", "---\nconfigs: 3\n---\n", "---\n- x\n---\n"]
        + ["---\nconfigs:\n- data_files: gone/*\n---\n"],
    )
    def test_without_use_the_names_decide(self, tmp_path, card):
        place = make(tmp_path, "train.jsonl", "test.jsonl", card=card)

        assert names(place) == ["train.jsonl"]


class TestUnread:
    def test_every_file_is_named(self, tmp_path):
        place = make(
            tmp_path,
            "train.jsonl",
            "dataset_infos.json",
            "notes.txt",
            "LICENSE",
            "old.xls",
            "all.tar.gz",
            "load.py",
            ".gitattributes",
            ".git/config",
            ".git/objects/00/x",
        )
        (tmp_path / "nothing.csv").touch()

        found = find_files(place)

        assert [file.name for file in found.files] == ["train.jsonl"]
        assert found.unread == [
            Unread(".git/", "hidden"),
            Unread(".gitattributes", "hidden"),
            Unread("LICENSE", "not a kind of data file (no suffix)"),
            Unread("all.tar.gz", "not a kind of data file (.tar; unpack it first)"),
            Unread("dataset_infos.json", "describes a data set, holds no pairs"),
            Unread("load.py", "not a kind of data file (.py)"),
            Unread(
                "notes.txt",
                "not a kind of data file (.txt; save the pairs as .jsonl or .csv)",
            ),
            Unread("nothing.csv", "the file is empty"),
            Unread(
                "old.xls", "not a kind of data file (.xls; save it as .xlsx or .csv)"
            ),
        ]

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            (
                "a.docx",
                r"a\.docx: not a kind of data file \(\.docx\); known are \.json",
            ),
            ("state.json", "state.json: describes a data set, holds no pairs"),
        ],
    )
    def test_a_file_that_is_no_data(self, tmp_path, name, message):
        with pytest.raises(DataError, match=message):
            read_records(f"{make(tmp_path, name)}/{name}")

    def test_an_empty_file(self, tmp_path):
        (tmp_path / "a.jsonl").touch()

        with pytest.raises(DataError, match=r"a\.jsonl: the file is empty"):
            read_records(str(tmp_path / "a.jsonl"))

    def test_a_folder_of_other_things(self, tmp_path):
        place = make(tmp_path, *(f"{n}.docx" for n in range(5)))

        with pytest.raises(DataError, match=r"no data file among 5 files.* 2 more"):
            read_records(place)
