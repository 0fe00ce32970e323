from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ser_kedro.errors import DataError
from ser_kedro.preferences.files.find import read_records, unread_files
from ser_kedro.preferences.records import DropReason
from tests.preferences.streaming import count_and_peak

ROWS = [{"chosen": f"good {n} é", "rejected": f"bad {n}"} for n in range(50)]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()


def records(place):
    return [raw.record for raw in read_records(str(place)) if raw.record is not None]


def flaws(place):
    return [(raw.place, raw.reason) for raw in read_records(str(place)) if raw.reason]


def parquet(path: Path) -> bytes:
    pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=7)
    return path.read_bytes()


class TestKindsOfFiles:
    @pytest.mark.parametrize("zipped", [False, True])
    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("a.jsonl", LINES),
            ("a.json", json.dumps(ROWS).encode()),
            ("a.json", json.dumps({"data": ROWS}, indent=1).encode()),
            ("lines.json", LINES),
            ("bom.jsonl", b"\xef\xbb\xbf" + LINES),
            ("blank.jsonl", LINES.replace(b"\n", b"\r\n\r\n")),
        ],
    )
    def test_json(self, tmp_path, name, content, zipped):
        path = tmp_path / (name + ".gz" * zipped)
        path.write_bytes(gzip.compress(content) if zipped else content)

        assert records(path) == ROWS
        assert flaws(path) == []

    @pytest.mark.parametrize("zipped", [False, True])
    def test_parquet(self, tmp_path, zipped):
        path = tmp_path / "a.parquet"
        content = parquet(path)
        if zipped:
            path = tmp_path / "a.parquet.gz"
            path.write_bytes(gzip.compress(content))

        assert records(path) == ROWS
        assert [raw.place for raw in read_records(str(path))][-1] == f"{path.name}:50"

    def test_gzip_is_known_by_its_first_bytes(self, tmp_path):
        path = tmp_path / "a.jsonl"
        path.write_bytes(gzip.compress(LINES))

        assert records(path) == ROWS

    def test_folder_is_read_recursively_in_the_order_of_names(self, tmp_path):
        for name in ("b/2.jsonl", "a.jsonl", ".hidden/x.jsonl", "README.md"):
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps({"name": name}))

        places = [raw.place for raw in read_records(str(tmp_path))]

        assert places == ["a.jsonl:1", "b/2.jsonl:1"]

    def test_what_is_no_regular_file_is_named_and_not_opened(self, tmp_path):
        """A pipe or a device would be read for ever."""
        (tmp_path / "a.jsonl").write_text('{"x": 1}\n')
        os.mkfifo(tmp_path / "pipe.jsonl")
        (tmp_path / "zero.jsonl").symlink_to("/dev/zero")
        (tmp_path / "gone.jsonl").symlink_to(tmp_path / "nothing")
        (tmp_path / "up.jsonl").symlink_to(tmp_path)
        (tmp_path / "linked.jsonl").symlink_to(tmp_path / "a.jsonl")

        place = str(tmp_path)

        assert len(list(read_records(place))) == 2
        assert unread_files(place) == [
            ("gone.jsonl", "a link to nothing"),
            ("pipe.jsonl", "not a regular file"),
            ("up.jsonl", "a link to a folder; give the folder itself"),
            ("zero.jsonl", "not a regular file"),
        ]

    def test_names_that_are_not_utf_8_can_be_written(self, tmp_path):
        (tmp_path / os.fsdecode(b"\xff.jsonl")).write_text('{"x": 1}\n')
        (tmp_path / os.fsdecode(b"\xfe.txt")).write_text("no data")

        (record,) = read_records(str(tmp_path))

        assert record.place == "\\xff.jsonl:1"
        ((name, _),) = unread_files(str(tmp_path))
        assert name == "\\xfe.txt"

    def test_urls(self, tmp_path):
        (tmp_path / "a.jsonl").write_bytes(LINES)
        fsspec.filesystem("memory").pipe("/prefs/a.jsonl.gz", gzip.compress(LINES))

        assert records(f"file://{tmp_path}/a.jsonl") == ROWS
        assert records("memory://prefs/a.jsonl.gz") == ROWS
        assert records("memory://prefs") == ROWS

    def test_lines_are_streamed(self, tmp_path):
        path = tmp_path / "a.jsonl"
        path.write_bytes(LINES * 2000)

        count, peak = count_and_peak(path)

        assert count == 100_000
        assert peak < path.stat().st_size / 2


class TestFlaws:
    def test_bad_lines_are_items_with_file_and_line(self, tmp_path):
        path = tmp_path / "a.jsonl"
        path.write_bytes(b'{"a": 1}\n{"a": \n[1, 2]\n{"a": "\xff"}\n\n{"a": 2}\n')

        assert records(path) == [{"a": 1}, {"a": 2}]
        assert flaws(path) == [
            ("a.jsonl:2", DropReason.invalid_json),
            ("a.jsonl:3", DropReason.wrong_types),
            ("a.jsonl:4", DropReason.invalid_utf8),
        ]

    def test_deep_nesting_and_long_numbers_are_invalid_json(self, tmp_path):
        path = tmp_path / "a.jsonl"
        path.write_text("[" * 100_000 + "\n" + "9" * 5000 + '\n{"a": 1}\n')

        assert records(path) == [{"a": 1}]
        assert [reason for _, reason in flaws(path)] == [DropReason.invalid_json] * 2

    def test_truncated_gzip_keeps_what_was_read_before(self, tmp_path):
        path = tmp_path / "a.jsonl.gz"
        noise = [{"a": os.urandom(30).hex()} for _ in range(2000)]
        whole = gzip.compress("\n".join(map(json.dumps, noise)).encode())
        path.write_bytes(whole[: len(whole) // 2])

        found = records(path)

        assert 500 < len(found) < 2000
        assert found == noise[: len(found)]
        assert flaws(path) == [(f"a.jsonl.gz:{len(found) + 1}", "truncated_file")]

    @pytest.mark.parametrize("name", ["a.jsonl.gz", "a.json.gz", "a.parquet.gz"])
    @pytest.mark.parametrize("content", [b"", b"no gzip", gzip.compress(LINES)[:-9]])
    def test_corrupt_gzip_counts_once(self, tmp_path, name, content):
        (tmp_path / name).write_bytes(content)

        assert [reason for _, reason in flaws(tmp_path / name)] == ["truncated_file"]

    @pytest.mark.parametrize(
        ("tail", "reason"),
        [(b', {"a": ', "invalid_json"), (b', {"a": "\xff"}]', "invalid_utf8")],
    )
    def test_flaw_in_a_list_keeps_what_was_before(self, tmp_path, tail, reason):
        path = tmp_path / "a.json"
        path.write_bytes(b'[{"a": 1}, {"a": 2}' + tail)

        assert records(path) == [{"a": 1}, {"a": 2}]
        assert flaws(path) == [("a.json:3", reason)]

    def test_truncated_parquet_counts_once(self, tmp_path):
        path = tmp_path / "a.parquet"
        path.write_bytes(parquet(path)[:-20])

        assert [reason for _, reason in flaws(path)] == ["truncated_file"]

    def test_damaged_parquet_pages_are_flaws(self, tmp_path):
        path = tmp_path / "a.parquet"
        content = bytearray(parquet(path))
        content[4:200] = b"\xff" * 196
        path.write_bytes(content)

        assert [reason for _, reason in flaws(path)] == ["truncated_file"]


class TestErrors:
    @pytest.mark.parametrize("name", ["absent.jsonl", "empty", "a.docx", "readmes"])
    def test_nothing_to_read(self, tmp_path, name):
        (tmp_path / "empty").mkdir()
        (tmp_path / "a.docx").write_text("a,b")
        (tmp_path / "readmes").mkdir()
        (tmp_path / "readmes" / "README.md").write_text("hello")

        with pytest.raises(DataError, match=name) as caught:
            read_records(str(tmp_path / name))

        assert "jsonl" in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_unknown_protocol(self):
        with pytest.raises(DataError, match="cannot be reached"):
            read_records("nonsense://bucket/a.jsonl")

    @pytest.mark.parametrize("place", ["hub://", "hub://o/n?spilt=train"])
    def test_malformed_hub_place(self, place):
        with pytest.raises(DataError, match="hub://OWNER/NAME"):
            read_records(place)

    def test_hub_out_of_reach_names_the_local_way(self):
        code = (
            "from ser_kedro.preferences.files.find import read_records\n"
            "from ser_kedro.errors import DataError\n"
            "try:\n    next(read_records('hub://Anthropic/hh-rlhf?split=test'))\n"
            "except DataError as error:\n    print(error)\n"
        )
        environment = {**os.environ, "HF_HUB_OFFLINE": "1"}

        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env=environment,
        )

        assert done.stdout.count("\n") == 1, done.stderr
        assert "hub://Anthropic/hh-rlhf?split=test" in done.stdout
        assert "--env own --params path=FILE,format=FORMAT" in done.stdout
