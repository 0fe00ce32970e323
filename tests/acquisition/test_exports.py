"""Requests that were labelled in other tools come back by the project's readers."""

import csv
import json

import pyarrow as pa
import pytest

from ser_kedro.acquisition.exports import EXPORTS, export
from ser_kedro.acquisition.request_job import REQUESTS
from ser_kedro.errors import DataError
from ser_kedro.preferences.schema import Message, Pair
from ser_kedro.preferences.source import PreferenceSource


@pytest.fixture
def requests(pool_rows):
    asked = {"p_a": 0.9, "score": 0.2, "random": False, "rank": 1}
    rows = [row | asked for row in pool_rows]
    return pa.Table.from_pylist(rows, REQUESTS)


def fill_jsonl(path):
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows = [{**row, "preference": "b"} for row in rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def fill_csv(path):
    with path.open(newline="") as file:
        rows = [{**row, "preference": "b"} for row in csv.DictReader(file)]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def fill_label_studio(path):
    value = {"selected": "right"}
    result = [{"type": "pairwise", "from_name": "better", "value": value}]
    tasks = json.loads(path.read_text())
    notes = [{"result": result, "was_cancelled": False}]
    path.write_text(json.dumps([{**task, "annotations": notes} for task in tasks]))


def fill_argilla(path):
    given = {"better": [{"value": "response2", "user_id": "ann"}]}
    records = json.loads(path.read_text())
    path.write_text(json.dumps([{**each, "responses": given} for each in records]))


FILL = {
    "csv": fill_csv,
    "jsonl": fill_jsonl,
    "label_studio": fill_label_studio,
    "argilla": fill_argilla,
}


def test_every_export_is_tested():
    assert set(FILL) == set(EXPORTS)


@pytest.mark.parametrize("form", FILL)
def test_come_back_as_labels_of_the_same_pairs(form, requests, pool_rows, tmp_path):
    path = tmp_path / f"asked.{form if form in ('csv', 'jsonl') else 'json'}"
    export(requests, form, path)
    assert "0.9" not in path.read_text()  # nor anything else that the model thinks
    FILL[form](path)
    found = list(PreferenceSource(path=str(path)).pairs("train"))
    expected = [
        Pair(
            tuple(Message(**turn) for turn in row["prompt"]),
            row["response_b"],
            row["response_a"],
        )
        for row in pool_rows
    ]
    assert [each.pair_id for each in found] == [each.pair_id for each in expected]
    assert [each.chosen for each in found] == [each.chosen for each in expected]


def test_never_over_a_file_that_may_hold_labels(requests, tmp_path):
    path = tmp_path / "asked.jsonl"
    export(requests, "jsonl", path)
    before = path.read_text()
    with pytest.raises(DataError, match="is there already"):
        export(requests, "jsonl", path)
    assert path.read_text() == before


def test_a_folder_that_is_not_there(requests, tmp_path):
    with pytest.raises(DataError, match="cannot be written"):
        export(requests, "csv", tmp_path / "no" / "asked.csv")
