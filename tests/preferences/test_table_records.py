from __future__ import annotations

import json
import sys

import numpy as np
import pandas as pd
import pytest

from ser_kedro.errors import DataError
from ser_kedro.preferences.files.find import read_records, unread_files
from ser_kedro.preferences.records import DropReason
from tests.preferences.streaming import count_and_peak

ROWS = [
    {"prompt": "Is it, really?", "chosen": 'He said "yes"\nand left', "rejected": "NA"},
    {"prompt": "é ?", "chosen": "None", "rejected": "null"},
    {"prompt": "1.50", "chosen": "nan", "rejected": None},
]
MESSAGES = [{"role": "user", "content": "it's\n[ok] {é}"}, {"role": "x", "content": ""}]


def read(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(read_records(str(path)))


def flaws(raws):
    return [(raw.place, raw.reason) for raw in raws if raw.reason]


def cell(tmp_path, value):
    frame = pd.DataFrame({"a": [value], "b": ["x"]})
    (raw,) = read(tmp_path, "a.csv", frame.to_csv(index=False))
    return raw.record["a"]


class TestCsv:
    @pytest.mark.parametrize(("name", "sep"), [("a.csv", ","), ("a.tsv", "\t")])
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
    @pytest.mark.parametrize("end", ["\n", "\r\n"])
    def test_only_empty_cells_are_nothing(self, tmp_path, name, sep, encoding, end):
        text = pd.DataFrame(ROWS).to_csv(index=False, sep=sep).replace("\n", end)

        raws = read(tmp_path, name, text.encode(encoding))

        assert [raw.record for raw in raws] == [
            {k: v and v.replace("\n", end) for k, v in row.items()} for row in ROWS
        ]

    @pytest.mark.parametrize("sep", [";", "\t", "|"])
    def test_other_separators(self, tmp_path, sep):
        text = pd.DataFrame(ROWS).to_csv(index=False, sep=sep)

        assert [raw.record for raw in read(tmp_path, "a.csv", text)] == ROWS

    def test_place_is_the_first_line_of_the_row(self, tmp_path):
        raws = read(tmp_path, "a.csv", 'a,b\n"1\n2",x\n\n3,y\n')

        assert [raw.place for raw in raws] == ["a.csv:2", "a.csv:5"]

    def test_header_names(self, tmp_path):
        (raw,) = read(tmp_path, "a.csv", ", text ,text\n0,x,y\n")

        assert raw.record == {"Unnamed: 0": "0", "text": "x", "text.1": "y"}

    def test_long_cells(self, tmp_path):
        (raw,) = read(tmp_path, "a.csv", f"a,b\n{'x' * 300_000},y\n")

        assert len(raw.record["a"]) == 300_000

    def test_rows_that_do_not_fit_the_header(self, tmp_path):
        raws = read(tmp_path, "a.csv", "a,b\n1\n1,2,\n1,2,3\n4,5\n")

        assert [raw.record for raw in raws if raw.record] == [
            {"a": "1", "b": None},
            {"a": "1", "b": "2"},
            {"a": "4", "b": "5"},
        ]
        assert flaws(raws) == [("a.csv:4", DropReason.wrong_types)]

    def test_bad_bytes_and_bad_quotes_cost_their_row(self, tmp_path):
        raws = read(tmp_path, "a.csv", b'a,b\n\xe9,1\n"x"y,2\nz,3\n')

        assert [raw.record for raw in raws if raw.record] == [{"a": "z", "b": "3"}]
        assert flaws(raws) == [
            ("a.csv:2", DropReason.invalid_utf8),
            ("a.csv:3", DropReason.wrong_types),
        ]

    def test_quote_that_is_not_closed(self, tmp_path):
        raws = read(tmp_path, "a.csv", 'a,b\n1,2\n3,"x\ny\n')

        assert [raw.record for raw in raws if raw.record] == [{"a": "1", "b": "2"}]
        assert flaws(raws) == [("a.csv:3", DropReason.truncated_file)]

    def test_quote_late_in_a_long_file_costs_its_rows(self, tmp_path):
        rows = "".join(f"{n},x\n" for n in range(3000))
        raws = read(tmp_path, "a.csv", f'a,b\n{rows}"open,x\n1,x\n')

        assert len([raw for raw in raws if raw.record]) == 3000
        assert flaws(raws) == [("a.csv:3002", DropReason.truncated_file)]

    def test_quote_that_swallows_the_file_is_an_error(self, tmp_path):
        with pytest.raises(DataError, match=r"a\.csv:2: a quote is opened"):
            read(tmp_path, "a.csv", 'a,b\n1,"2\n' + "3,4\n" * 2000)

    def test_rows_are_streamed(self, tmp_path):
        path = tmp_path / "a.csv"
        pd.DataFrame(ROWS * 30_000).to_csv(path, index=False)

        count, peak = count_and_peak(path)

        assert count == 90_000
        assert peak < 4_500_000


class TestCells:
    @pytest.mark.parametrize(
        "value", [MESSAGES, {"role": "user"}, ["a", "b"], [1, 2.5], []]
    )
    def test_json(self, tmp_path, value):
        assert cell(tmp_path, json.dumps(value, ensure_ascii=False)) == value

    @pytest.mark.parametrize(
        "value",
        [MESSAGES, {"role": "it's"}, np.array(MESSAGES, dtype=object)],
        ids=["list", "object", "array"],
    )
    def test_python_as_pandas_writes_it(self, tmp_path, value):
        expected = value if isinstance(value, dict) else MESSAGES

        assert cell(tmp_path, value) == expected

    @pytest.mark.parametrize(
        "text",
        ["[see below]", "{", "['a' 'b']", "[{'a': open}]", " [1] no", "5", "true"],
    )
    def test_other_texts_stay(self, tmp_path, text):
        assert cell(tmp_path, text) == text


class TestExcel:
    def test_first_sheet_is_read(self, tmp_path):
        path = tmp_path / "a.xlsx"
        messages = json.dumps(MESSAGES)
        with pd.ExcelWriter(path) as writer:
            pd.DataFrame([*ROWS, {"prompt": messages, "chosen": 3}]).to_excel(
                writer, sheet_name="Pairs", index=False
            )
            pd.DataFrame({"note": ["x"]}).to_excel(writer, sheet_name="Notes & more")

        raws = list(read_records(str(path)))

        assert [raw.record for raw in raws] == [
            *ROWS,
            {"prompt": MESSAGES, "chosen": "3", "rejected": None},
        ]
        assert [raw.place for raw in raws] == [f"a.xlsx:{n}" for n in (2, 3, 4, 5)]
        assert unread_files(str(path)) == [
            ("a.xlsx, sheet Notes & more", "only the first sheet is read")
        ]

    @pytest.mark.parametrize("content", [b"PK\x03\x04", b"no sheet"])
    def test_damaged(self, tmp_path, content):
        assert flaws(read(tmp_path, "a.xlsx", content)) == [
            ("a.xlsx:1", DropReason.truncated_file)
        ]

    def test_openpyxl_is_named_where_it_is_missing(self, tmp_path, monkeypatch):
        pd.DataFrame(ROWS).to_excel(tmp_path / "a.xlsx")
        monkeypatch.setitem(sys.modules, "openpyxl", None)

        with pytest.raises(DataError, match=r"pip install 'ser-kedro\[excel\]'"):
            list(read_records(str(tmp_path / "a.xlsx")))
