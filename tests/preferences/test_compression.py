from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import zipfile

import pandas as pd
import pyarrow as pa
import pytest

from ser_kedro.errors import DataError
from ser_kedro.preferences.files import compression
from ser_kedro.preferences.files.find import find_files, read_records, unread_files
from ser_kedro.preferences.records import DropReason

ROWS = [{"a": os.urandom(30).hex(), "b": f"é {n}"} for n in range(4000)]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n"


def zstd(content):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


def zipped(**members):
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return sink.getvalue()


METHODS = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstd,
}


def read(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    return list(read_records(str(tmp_path / name)))


def content_of(kind, rows):
    frame = pd.DataFrame(rows)
    if kind == "json":
        return json.dumps(rows).encode()
    if kind == "csv":
        return frame.to_csv(index=False).encode()
    if kind == "parquet":
        return frame.to_parquet(index=False)
    if kind == "arrow":
        sink = io.BytesIO()
        frame.to_feather(sink)
        return sink.getvalue()
    if kind == "xlsx":
        sink = io.BytesIO()
        frame.to_excel(sink, index=False)
        return sink.getvalue()
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.mark.parametrize("suffix", METHODS)
class TestMethods:
    @pytest.mark.parametrize(
        "kind", ["jsonl", "json", "csv", "parquet", "arrow", "xlsx"]
    )
    def test_every_kind(self, tmp_path, suffix, kind):
        content = METHODS[suffix](content_of(kind, ROWS[:20]))

        raws = read(tmp_path, f"a.{kind}{suffix}", content)

        assert [raw.record for raw in raws] == ROWS[:20]

    @pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.json", "a.jsonl.zst"])
    def test_known_by_the_first_bytes(self, tmp_path, suffix, name):
        raws = read(tmp_path, name, METHODS[suffix](LINES))

        assert [raw.record for raw in raws] == ROWS

    @pytest.mark.parametrize("kind", ["jsonl", "json", "csv"])
    def test_truncated_keeps_what_was_read_before(self, tmp_path, suffix, kind):
        # Enough for several blocks of bzip2 and zstd.
        rows = [{"a": os.urandom(40).hex(), "b": str(n)} for n in range(25_000)]
        whole = METHODS[suffix](content_of(kind, rows))
        name = f"a.{kind}{suffix}"

        *good, last = read(tmp_path, name, whole[: len(whole) // 2])

        assert 4000 < len(good) < len(rows)
        assert [raw.record for raw in good] == rows[: len(good)]
        line = len(good) + 1 + (kind == "csv")
        assert (last.place, last.reason) == (
            f"{name}:{line}",
            DropReason.truncated_file,
        )

    @pytest.mark.parametrize(
        "kind", ["jsonl", "json", "csv", "parquet", "arrow", "xlsx"]
    )
    @pytest.mark.parametrize("content", [b"", b"not compressed at all"])
    def test_nothing_of_it_counts_once(self, tmp_path, suffix, kind, content):
        raws = read(tmp_path, f"a.{kind}{suffix}", content)

        assert [raw.reason for raw in raws] == [DropReason.truncated_file]

    def test_several_parts_in_a_row(self, tmp_path, suffix):
        half = len(b"".join(LINES.splitlines(True)[:2000]))
        content = METHODS[suffix](LINES[:half]) + METHODS[suffix](LINES[half:])

        raws = read(tmp_path, f"a.jsonl{suffix}", content)

        assert [raw.record for raw in raws] == ROWS


class TestZip:
    @pytest.mark.parametrize("name", ["p.zip", "p.jsonl.zip", "p.jsonl"])
    def test_one_member(self, tmp_path, name):
        raws = read(tmp_path, name, zipped(**{"in.jsonl": LINES}))

        assert [raw.record for raw in raws] == ROWS
        assert raws[2].place == f"{name}/in.jsonl:3"

    def test_several_members(self, tmp_path):
        members = {
            "b/x.csv": b"a,b\n1,2\n",
            "a.jsonl.gz": gzip.compress(b'{"a": 1}\n'),
            "README.md": b"hello",
            "__MACOSX/._a.jsonl": b"\x00",
            ".DS_Store": b"\x00",
            "b/nothing.jsonl": b"",
        }

        raws = read(tmp_path, "p.zip", zipped(**members))

        assert [(raw.place, raw.record) for raw in raws] == [
            ("p.zip/a.jsonl.gz:1", {"a": 1}),
            ("p.zip/b/x.csv:2", {"a": "1", "b": "2"}),
        ]
        assert unread_files(str(tmp_path / "p.zip")) == [
            ("p.zip/.DS_Store", "hidden"),
            ("p.zip/README.md", "not a kind of data file (.md)"),
            ("p.zip/__MACOSX/", "hidden"),
            ("p.zip/b/nothing.jsonl", "the file is empty"),
        ]

    def test_splits_of_members(self, tmp_path):
        content = zipped(**{"train.jsonl": LINES, "test.jsonl": b'{"a": 1}'})

        assert len(read(tmp_path, "p.zip", content)) == len(ROWS)
        (file,) = find_files(str(tmp_path / "p.zip")).files
        assert (file.kind, file.path) == ("jsonl train.jsonl", str(tmp_path / "p.zip"))
        (raw,) = read_records(f"{tmp_path / 'p.zip'}?split=test")
        assert raw.record == {"a": 1}

    def test_in_a_folder(self, tmp_path):
        (tmp_path / "a.jsonl").write_text('{"a": 1}')
        (tmp_path / "p.zip").write_bytes(zipped(**{"b.jsonl": b'{"a": 2}'}))

        assert [raw.record for raw in read_records(str(tmp_path))] == [
            {"a": 1},
            {"a": 2},
        ]

    def test_truncated(self, tmp_path):
        raws = read(tmp_path, "p.zip", zipped(**{"a.jsonl": LINES})[:-30])

        assert [(raw.place, raw.reason) for raw in raws] == [
            ("p.zip:1", DropReason.truncated_file)
        ]

    def test_damaged_member(self, tmp_path):
        content = bytearray(zipped(**{"a.jsonl": LINES}))
        content[20_000:20_100] = bytes(100)

        *_, last = read(tmp_path, "p.zip", bytes(content))

        assert last.reason == DropReason.truncated_file

    def test_members_that_cannot_be_unpacked(self, tmp_path):
        content = bytearray(zipped(**{"a.jsonl": LINES}))
        directory = content.index(b"PK\x01\x02")
        content[6] |= 1  # encrypted, says the member
        content[directory + 8] |= 1

        with pytest.raises(DataError, match=r"encrypted.*unpack the archive first"):
            read(tmp_path, "p.zip", bytes(content))

    def test_no_data_inside(self, tmp_path):
        with pytest.raises(DataError, match=r"p\.zip: .*README\.md.*jsonl"):
            read(tmp_path, "p.zip", zipped(**{"README.md": b"hello"}))


NAMES = ["a.jsonl", "a.json", "a.csv", "a.parquet", "a.arrow", "a.xlsx", "a.zip"]


class TestNoData:
    @pytest.mark.parametrize("name", [*NAMES, "a.jsonl.gz", "a.parquet.zst"])
    def test_git_lfs_pointer(self, tmp_path, name):
        with pytest.raises(DataError, match=r"Git LFS pointer.*git lfs pull") as caught:
            read(tmp_path, name, POINTER)

        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("name", NAMES)
    def test_web_page(self, tmp_path, name):
        with pytest.raises(DataError, match="a web page, not data"):
            read(tmp_path, name, b"\n<!DOCTYPE html>\n<html><body>404</body></html>")


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("a.jsonl.gz", gzip.compress),
        ("a.csv.bz2", bz2.compress),
        ("a.zip", lambda data: zipped(**{"a.jsonl": data})),
        ("b.zip", lambda data: zipped(**{"a.jsonl.gz": gzip.compress(data)})),
    ],
)
def test_what_is_made_to_fill_the_memory_is_refused(tmp_path, name, pack):
    (tmp_path / name).write_bytes(pack(bytes(200_000_000)))

    with pytest.raises(DataError, match="a line of it has more than 64 MB"):
        list(read_records(str(tmp_path / name)))


def test_only_a_long_line_is_refused(tmp_path, monkeypatch):
    """Not many short ones, however well they compress."""
    monkeypatch.setattr(compression, "_LONGEST", 1000)
    monkeypatch.setattr(compression, "_MOST_TIMES", 50)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"a": 1}\n' * 200_000))
    assert sum(1 for _ in read_records(str(tmp_path / "a.jsonl.gz"))) == 200_000
    long = json.dumps({"a": "x" * 2_000_000}).encode()
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(long))
    with pytest.raises(DataError, match="b.jsonl.gz: a line of it has more than"):
        list(read_records(str(tmp_path / "b.jsonl.gz")))


def test_data_that_compress_well_are_read(tmp_path):
    """Rows that share a long document shrink to less than a thousandth."""
    line = json.dumps({"prompt": "".join(f"Why {n}? " for n in range(4000))})
    packed = lzma.compress(f"{line}\n".encode() * 3000, preset=0)
    assert len(line) * 3000 > 100_000_000 > 1000 * len(packed)
    (tmp_path / "a.jsonl.xz").write_bytes(packed)

    assert sum(1 for _ in read_records(str(tmp_path / "a.jsonl.xz"))) == 3000


def test_what_is_not_read_of_an_archive_may_be_as_it_likes(tmp_path):
    zeros = {"index.npy": bytes(100_000_000), "a.jsonl": LINES}
    (tmp_path / "a.zip").write_bytes(zipped(**zeros))

    assert sum(1 for _ in read_records(str(tmp_path / "a.zip"))) == len(ROWS)
