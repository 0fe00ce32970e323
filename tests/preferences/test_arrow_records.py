from __future__ import annotations

from datetime import UTC, datetime

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from ser_kedro.preferences.files.find import read_records, unread_files
from ser_kedro.preferences.records import DropReason

ROWS = [
    {"prompt": f"p {n} é", "chosen": [{"role": "user", "content": f"c {n}"}]}
    for n in range(50)
]
TABLE = pa.Table.from_pylist(ROWS)
YEAR_33658 = 1_000_000_000_000_000_000  # in microseconds


def write(path, table, how):
    if how == "parquet":
        pq.write_table(table, path, row_group_size=7)
    elif how == "feather":
        pyarrow.feather.write_feather(table, path, compression="lz4")
    else:
        new = pa.ipc.new_file if how == "file" else pa.ipc.new_stream
        with new(path, table.schema) as writer:
            for batch in table.to_batches(max_chunksize=7):
                writer.write_batch(batch)
    return path


def records(place):
    raws = list(read_records(str(place)))
    assert [raw for raw in raws if raw.reason] == []
    return [raw.record for raw in raws]


KINDS = [
    ("a.parquet", "parquet"),
    ("a.arrow", "file"),
    ("a.arrow", "stream"),
    ("a.feather", "feather"),
]


@pytest.mark.parametrize(("name", "how"), KINDS)
class TestColumns:
    def test_rows(self, tmp_path, name, how):
        path = write(tmp_path / name, TABLE, how)

        raws = list(read_records(str(path)))

        assert [raw.record for raw in raws] == ROWS
        assert [raw.place for raw in raws] == [f"{name}:{n}" for n in range(1, 51)]

    def test_a_column_that_python_cannot_hold_costs_its_value(
        self, tmp_path, name, how
    ):
        moment = pa.timestamp("us", tz="UTC")
        odd = {
            "date": pa.array([0, YEAR_33658], moment),
            "zone": pa.array([0, 1], pa.timestamp("us", tz="Mars/Olympus")),
            "nested": pa.array(
                [{"at": 0}, {"at": YEAR_33658}], pa.struct({"at": moment})
            ),
            "nested_list": pa.array([[0], [YEAR_33658]], pa.list_(moment)),
        }
        table = pa.table({"prompt": ["a", "b"], **odd})

        first, second = records(write(tmp_path / name, table, how))

        start = datetime(1970, 1, 1, tzinfo=UTC)
        assert first == {
            "prompt": "a",
            "date": start,
            "zone": None,
            "nested": {"at": start},
            "nested_list": [start],
        }
        assert second == {
            "prompt": "b",
            "date": None,
            "zone": None,
            "nested": {"at": None},
            "nested_list": [None],
        }

    def test_dictionaries_maps_and_large_types(self, tmp_path, name, how):
        if how == "feather":
            pytest.skip("LZ4 of one batch only says the same again")
        table = pa.table(
            {
                "a": pa.array(["x", "y", "x"]).dictionary_encode(),
                "b": pa.array(["x", None, "é"], pa.large_string()),
                "c": pa.array([[("k", 1)], [], None], pa.map_(pa.string(), pa.int64())),
                "d": pa.array([["x"], None, []], pa.large_list(pa.large_string())),
                "e": pa.array([float("nan"), float("inf"), 1.5]),
            }
        )

        assert records(write(tmp_path / name, table, how)) == [
            {"a": "x", "b": "x", "c": {"k": 1}, "d": ["x"], "e": None},
            {"a": "y", "b": None, "c": {}, "d": None, "e": None},
            {"a": "x", "b": "é", "c": None, "d": [], "e": 1.5},
        ]

    def test_binary_that_is_text_is_text(self, tmp_path, name, how):
        values = ["é".encode(), b"\xff", None]
        table = pa.table({"a": values, "b": pa.array(values, pa.large_binary())})

        assert records(write(tmp_path / name, table, how)) == [
            {"a": "é", "b": "é"},
            {"a": b"\xff", "b": b"\xff"},
            {"a": None, "b": None},
        ]

    def test_text_that_is_not_utf8_keeps_its_bytes(self, tmp_path, name, how):
        text = pa.array([b"\xffx", "é".encode()]).view(pa.string())
        table = pa.table({"a": text, "b": ["1", "2"]})

        assert records(write(tmp_path / name, table, how)) == [
            {"a": "\udcffx", "b": "1"},
            {"a": "é", "b": "2"},
        ]

    def test_second_column_of_a_name_gets_a_number(self, tmp_path, name, how):
        if how == "feather":
            pytest.skip("Feather has no such columns")
        table = pa.table([["a"], ["b"], ["c"]], names=["prompt", "x", "prompt"])

        assert records(write(tmp_path / name, table, how)) == [
            {"prompt": "a", "x": "b", "prompt.1": "c"}
        ]

    def test_no_rows(self, tmp_path, name, how):
        assert records(write(tmp_path / name, TABLE.slice(0, 0), how)) == []


class TestFlaws:
    @pytest.mark.parametrize("how", ["file", "stream"])
    def test_truncated_arrow_gives_the_rows_before(self, tmp_path, how):
        path = write(tmp_path / "a.arrow", TABLE, how)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

        *rows, last = read_records(str(path))

        assert 7 < len(rows) < 50
        assert [raw.record for raw in rows] == ROWS[: len(rows)]
        assert (last.place, last.reason) == (
            f"a.arrow:{len(rows) + 1}",
            DropReason.truncated_file,
        )

    @pytest.mark.parametrize("content", [b"ARROW1\x00\x00", b"no arrow at all"])
    def test_no_arrow(self, tmp_path, content):
        (tmp_path / "a.arrow").write_bytes(content)

        (raw,) = read_records(str(tmp_path / "a.arrow"))

        assert raw.reason == DropReason.truncated_file


class TestSaveToDisk:
    def test_data_set(self, tmp_path):
        data = datasets.Dataset.from_list(ROWS)
        data.save_to_disk(tmp_path / "d", num_shards=2)
        (tmp_path / "d" / "cache-0123.arrow").write_bytes(b"of a map()")

        assert records(tmp_path / "d") == ROWS
        assert unread_files(str(tmp_path / "d")) == [
            ("cache-0123.arrow", "a cache of the datasets library"),
            ("dataset_info.json", "describes a data set, holds no pairs"),
            ("state.json", "describes a data set, holds no pairs"),
        ]

    def test_splits(self, tmp_path):
        parts = {"train": ROWS[:30], "test": ROWS[30:]}
        datasets.DatasetDict(
            {name: datasets.Dataset.from_list(rows) for name, rows in parts.items()}
        ).save_to_disk(tmp_path / "d")

        assert records(tmp_path / "d") == parts["train"]
        assert records(f"{tmp_path / 'd'}?split=test") == parts["test"]
        assert ("test/data-00000-of-00001.arrow", "another split (test)") in (
            unread_files(str(tmp_path / "d"))
        )

    def test_splits_of_any_name(self, tmp_path):
        parts = {"train_prefs": ROWS[:30], "train_sft": ROWS[30:40], "odd": ROWS[40:]}
        datasets.DatasetDict(
            {name: datasets.Dataset.from_list(rows) for name, rows in parts.items()}
        ).save_to_disk(tmp_path / "d")

        for name, rows in parts.items():
            assert records(f"{tmp_path / 'd'}?split={name}") == rows


def with_offsets(offsets, data=b"abc"):
    """A text column that says where its texts are, without being asked."""
    buffers = [None, pa.py_buffer(np.array(offsets, np.int32)), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.string(), len(offsets) - 1, buffers)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("offsets", [[0, 2, 1 << 30], [0, 3, 1], [-5, 1, 2]])
def test_offsets_that_lead_out_of_the_memory_are_refused(tmp_path, offsets, nested):
    """Reading such a column would end the process, or show what is none of its."""
    whole = [0, 1, 3]
    column = with_offsets(whole)
    if nested:
        column = pa.ListArray.from_arrays(pa.array([0, 1, 2], pa.int32()), column)
    table = pa.table({"a": column})
    path = tmp_path / "a.arrow"
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table)
    before, after = (np.array(each, np.int32).tobytes() for each in (whole, offsets))
    assert path.read_bytes().count(before) == 1
    path.write_bytes(path.read_bytes().replace(before, after))

    (raw,) = read_records(str(path))

    assert raw.reason is DropReason.truncated_file


@pytest.mark.parametrize("nested", [False, True, "dictionary"])
def test_text_that_is_not_utf_8_costs_nothing_but_itself(tmp_path, nested):
    column = with_offsets([0, 1, 3], b"a\xff\xfe")
    if nested == "dictionary":
        column = pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int8()), column)
    elif nested:
        column = pa.StructArray.from_arrays([column], ["x"])
    table = pa.table({"a": column, "b": ["c", "d"]})
    path = tmp_path / "a.arrow"
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table)

    found = [raw.record for raw in read_records(str(path))]

    assert [row["b"] for row in found] == ["c", "d"]
    texts = [row["a"]["x"] if nested is True else row["a"] for row in found]
    assert texts == ["a", "\udcff\udcfe"]
