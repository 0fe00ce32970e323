from __future__ import annotations

import gzip
import json

import pytest

from ser_kedro.errors import DataError
from ser_kedro.preferences.files.find import read_records
from ser_kedro.preferences.records import DropReason

ROWS = [
    {"prompt": f"How é {n}?", "chosen": f"So, [{n}]: {{\n}}", "rejected": "No."}
    for n in range(30)
]
DIALOGUES = [
    {
        "prompt": [{"role": "user", "content": f"q {n}"}],
        "chosen": [{"role": "assistant", "content": f"a {n}"}],
    }
    for n in range(3)
]


def dump(row, **options):
    return json.dumps(row, ensure_ascii=False, **options)


def columns(rows):
    return {key: [row[key] for row in rows] for key in rows[0]}


def read(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(read_records(str(path)))


def records(raws):
    assert [raw for raw in raws if raw.reason] == []
    return [raw.record for raw in raws]


def flaws(raws):
    return [(raw.place, raw.reason) for raw in raws if raw.reason]


LAYOUTS = {
    "list on one line": dump(ROWS),
    "list, printed": dump(ROWS, indent=2),
    "list, printed without indent": dump(ROWS, indent=0),
    "list, a record a line": "[\n" + ",\n".join(map(dump, ROWS)) + "\n]\n",
    "list, bracket beside record": "[" + ",\n".join(map(dump, ROWS)) + "]",
    "list, brackets beside records": "["
    + ",\n".join(map(dump, ROWS[:3]))
    + "\n]\n["
    + ",\n".join(map(dump, ROWS[3:]))
    + "]",
    "list, comma at the end": "[" + ",\n".join(map(dump, ROWS)) + ",\n]",
    "objects, printed": "\n".join(dump(row, indent=4) for row in ROWS),
    "objects, printed, with commas": ",\n".join(dump(row, indent=4) for row in ROWS),
    "objects in a row": "".join(map(dump, ROWS)),
    "objects in a row, with spaces": " ".join(map(dump, ROWS)),
    "lines with commas": ",\n".join(map(dump, ROWS)),
    "lines": "\n".join(map(dump, ROWS)),
    "two records a line": "\n".join(
        dump(a) + dump(b) for a, b in zip(ROWS[::2], ROWS[1::2], strict=True)
    ),
    "several lists": dump(ROWS[:9]) + "\n" + dump(ROWS[9:], indent=1),
    "several lists, one a line": dump(ROWS[:9]) + "\n" + dump(ROWS[9:]) + "\n",
    "columns": dump(columns(ROWS)),
    "columns, printed": dump(columns(ROWS), indent=1),
    "columns of pandas": dump(
        {key: dict(zip(map(str, range(30)), c)) for key, c in columns(ROWS).items()}
    ),
    "index of pandas": dump({str(n): row for n, row in enumerate(ROWS)}),
    "split of pandas": dump(
        {
            "columns": list(ROWS[0]),
            "index": list(range(30)),
            "data": [list(row.values()) for row in ROWS],
        }
    ),
    "viewer": dump(
        {
            "features": [{"name": "prompt"}],
            "rows": [
                {"row_idx": n, "row": row, "truncated_cells": []}
                for n, row in enumerate(ROWS)
            ],
            "num_rows_total": 30,
        }
    ),
    "unknown wrapper": dump({"preferences": ROWS}),
    "wrapper with more": dump({"version": "1.1", "tags": ["a"], "data": ROWS}),
} | {f"wrapper {key}": dump({key: ROWS}) for key in ("train", "examples", "instances")}


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
@pytest.mark.parametrize("layout", LAYOUTS)
class TestLayouts:
    def test_all_records_are_read(self, tmp_path, layout, suffix):
        assert records(read(tmp_path, f"a{suffix}", LAYOUTS[layout])) == ROWS

    @pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
    def test_in_other_encodings(self, tmp_path, layout, suffix, encoding):
        content = LAYOUTS[layout].encode(encoding)

        assert records(read(tmp_path, f"a{suffix}", content)) == ROWS

    @pytest.mark.parametrize("end", ["\r\n", "\r"])
    def test_with_other_line_ends(self, tmp_path, layout, suffix, end):
        content = LAYOUTS[layout].replace("\n", end)

        assert records(read(tmp_path, f"a{suffix}", content)) == ROWS


class TestPlaces:
    def test_lines_count_blank_ones(self, tmp_path):
        raws = read(tmp_path, "a.jsonl", '\n{"a": 1}\n\n{"a": 2}')

        assert [raw.place for raw in raws] == ["a.jsonl:2", "a.jsonl:4"]

    def test_documents_count_records(self, tmp_path):
        raws = read(tmp_path, "a.jsonl", '[{"a": 1\n},\n{"a": 2}]')

        assert [raw.place for raw in raws] == ["a.jsonl:1", "a.jsonl:2"]


class TestOneRecord:
    @pytest.mark.parametrize(
        "record",
        [
            ROWS[0],
            DIALOGUES[0],
            {"messages": DIALOGUES[0]["prompt"]},
            {"prompt": "q", "responses": ["a", "b"], "scores": [1, 2]},
            {"conversations": [{"from": "human", "value": "q"}]},
        ],
    )
    @pytest.mark.parametrize("indent", [None, 1])
    def test_is_no_layout(self, tmp_path, record, indent):
        assert records(read(tmp_path, "a.json", dump(record, indent=indent))) == [
            record
        ]

    def test_columns_of_dialogues(self, tmp_path):
        content = dump(columns(DIALOGUES))

        assert records(read(tmp_path, "a.json", content)) == DIALOGUES

    def test_empty_list_has_no_records(self, tmp_path):
        assert read(tmp_path, "a.json", '{"data": []}') == []


class TestNumbersThatJsonHasNot:
    def test_they_are_nothing(self, tmp_path):
        content = '{"a": NaN, "b": [Infinity, -Infinity, 1.5]}\n{"a": 1}'

        assert records(read(tmp_path, "a.jsonl", content)) == [
            {"a": None, "b": [None, None, 1.5]},
            {"a": 1},
        ]


class TestAmbiguous:
    @pytest.mark.parametrize(
        ("content", "detail"),
        [
            (
                {"train": ROWS, "test": ROWS[:2]},
                "several lists of records: train (30), test (2); save each as a file of"
                " its own",
            ),
            (
                {"prompt": ["a", "b"], "chosen": ["c"]},
                "columns of different lengths: prompt 2, chosen 1; write a record a"
                " line",
            ),
            (
                {"rows": [{"row": ROWS[0], "truncated_cells": ["chosen"]}]},
                "the viewer has shortened chosen; read the data set itself by hub://",
            ),
        ],
    )
    def test_says_what_was_found_and_what_to_do(self, tmp_path, content, detail):
        (raw,) = read(tmp_path, "a.json", dump(content))

        assert raw.place == "a.json:1"
        assert raw.record is None
        assert raw.detail == detail


class TestFlaws:
    def test_bad_first_line_costs_one_record(self, tmp_path):
        content = '{"a": 0\n{"a": 1}\n{"a": 2}\n'

        raws = read(tmp_path, "a.jsonl", content)

        assert [raw.record for raw in raws[1:]] == [{"a": 1}, {"a": 2}]
        assert flaws(raws) == [("a.jsonl:1", DropReason.invalid_json)]

    def test_line_with_a_flaw_after_a_record(self, tmp_path):
        raws = read(tmp_path, "a.jsonl", '{"a": 0}\n{"a": 1}, {"a": \n{"a": 2}\n')

        assert [r.record for r in raws if r.record] == [{"a": 0}, {"a": 1}, {"a": 2}]
        assert flaws(raws) == [("a.jsonl:2", DropReason.invalid_json)]

    def test_flaw_in_a_printed_stream_costs_one_record(self, tmp_path):
        good = dump(ROWS[0], indent=1)
        content = "\n".join([good, '{\n "a": oops\n}', good, good])

        raws = read(tmp_path, "a.json", content)

        assert [raw.record for raw in raws if raw.record] == [ROWS[0]] * 3
        assert flaws(raws) == [("a.json:2", DropReason.invalid_json)]

    @pytest.mark.parametrize(
        ("content", "place"),
        [('[{"a": 1}, {"a": 2}', 3), ('[\n{"a": 1},\n{"a": 2}\n', 4)],
    )
    def test_list_that_is_not_closed(self, tmp_path, content, place):
        raws = read(tmp_path, "a.json", content)

        assert [raw.record for raw in raws if raw.record] == [{"a": 1}, {"a": 2}]
        assert flaws(raws) == [(f"a.json:{place}", DropReason.invalid_json)]

    def test_bad_byte_in_a_document_costs_one_record(self, tmp_path):
        raws = read(tmp_path, "a.json", b'[{"a": 1}, {"a": "\xff"}, {"a": 3}]')

        assert [raw.record for raw in raws if raw.record] == [{"a": 1}, {"a": 3}]
        assert flaws(raws) == [("a.json:2", DropReason.invalid_utf8)]

    def test_lines_of_python_are_flaws_of_their_own(self, tmp_path):
        raws = read(tmp_path, "a.jsonl", "".join(f"{row}\n" for row in ROWS))

        assert flaws(raws) == [
            (f"a.jsonl:{n}", DropReason.invalid_json) for n in range(1, 31)
        ]

    def test_a_large_file_of_flaws_ends_soon(self, tmp_path):
        raws = read(tmp_path, "a.json", "{'a':\n1}\n" * 100_000)

        assert len(raws) == 100

    def test_values_that_are_no_objects(self, tmp_path):
        raws = read(tmp_path, "a.json", '[{"a": 1}, 3, [{"a": 2}]]')

        assert flaws(raws) == [
            ("a.json:2", DropReason.wrong_types),
            ("a.json:3", DropReason.wrong_types),
        ]

    def test_half_a_character_at_the_end(self, tmp_path):
        raws = read(tmp_path, "a.jsonl", '{"a": 1}\n{"a": 2}'.encode("utf-16")[:-1])

        assert [raw.record for raw in raws if raw.record] == [{"a": 1}]
        assert flaws(raws) == [("a.jsonl:2", DropReason.truncated_file)]


def test_a_file_of_empty_lines_is_refused_before_long(tmp_path):
    """A gigabyte of them takes a megabyte when it is compressed."""
    packed = gzip.compress(b"\n" * 3_000_000)

    with pytest.raises(DataError, match="1,000,000 empty lines follow each other"):
        read(tmp_path, "a.jsonl.gz", packed)


def test_many_empty_lines_between_records_do_no_harm(tmp_path):
    text = ("\n" * 40_000).join(dump(row) for row in ROWS[:3])

    assert records(read(tmp_path, "a.jsonl", text)) == ROWS[:3]
