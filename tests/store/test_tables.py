import numpy as np
import pyarrow as pa
import pytest

from ser_kedro.store.tables import map_table, reorder, write_document, write_table

SCHEMA = pa.schema([("n", pa.int64()), ("text", pa.string())])
ROWS = [{"n": n, "text": "x" * n} for n in range(10)]


def batch(rows):
    return pa.RecordBatch.from_pylist(rows, SCHEMA)


def test_round_trip(tmp_path):
    output = write_table(tmp_path, "t", [batch(ROWS[:4]), batch(ROWS[4:])], SCHEMA)

    assert output.path == "t.arrow"
    assert output.rows == 10
    assert map_table(tmp_path / "t.arrow").to_pylist() == ROWS


def test_equal_content_has_an_equal_digest(tmp_path):
    one = write_table(tmp_path, "one", [batch(ROWS)], SCHEMA)
    two = write_table(tmp_path, "two", [batch(ROWS)], SCHEMA, {"metric": 1})

    assert one.fingerprint == two.fingerprint
    assert two.metrics == {"metric": 1}


def test_other_content_has_another_digest(tmp_path):
    one = write_table(tmp_path, "one", [batch(ROWS)], SCHEMA)
    two = write_table(tmp_path, "two", [batch(ROWS[::-1])], SCHEMA)

    assert one.fingerprint != two.fingerprint


def test_rows_are_read_when_they_are_used(tmp_path):
    big = pa.RecordBatch.from_arrays(
        [pa.array(np.arange(2**20)), pa.array(["x"] * 2**20)], schema=SCHEMA
    )
    write_table(tmp_path, "t", [big], SCHEMA)
    before = pa.total_allocated_bytes()

    table = map_table(tmp_path / "t.arrow")

    assert table.nbytes > 2**23
    assert pa.total_allocated_bytes() - before < 2**16


def test_an_empty_table(tmp_path):
    output = write_table(tmp_path, "t", [], SCHEMA)

    table = map_table(tmp_path / "t.arrow")

    assert output.rows == 0
    assert table.schema == SCHEMA
    assert table["n"].to_numpy().tolist() == []
    assert list(reorder(table, range(0))) == []


def test_a_batch_of_another_schema_is_refused(tmp_path):
    other = pa.RecordBatch.from_pydict({"n": [1]})

    with pytest.raises(pa.ArrowInvalid, match="schema"):
        write_table(tmp_path, "t", [other], SCHEMA)


@pytest.mark.parametrize(
    "indices", [[3, 1, 1, 9], np.array([3, 1, 1, 9]), range(9, 2, -1)]
)
def test_reorder(indices):
    table = pa.Table.from_batches([batch(ROWS[:4]), batch(ROWS[4:])])

    batches = list(reorder(table, indices, batch=3))

    rows = [row for part in batches for row in part.to_pylist()]
    assert rows == [ROWS[i] for i in indices]
    assert max(part.num_rows for part in batches) == 3


def test_reordered_rows_have_the_digest_of_the_same_rows(tmp_path):
    table = pa.Table.from_batches([batch(ROWS)])
    taken = write_table(tmp_path, "one", reorder(table, [5, 2]), SCHEMA)
    fresh = write_table(tmp_path, "two", [batch([ROWS[5], ROWS[2]])], SCHEMA)

    assert taken.fingerprint == fresh.fingerprint


def test_a_document_is_known_by_its_content(project):
    one, two = (
        write_document(project, name, {"rows": [1, None, "ü"]}) for name in "ab"
    )

    assert one.fingerprint == two.fingerprint
    assert one.read() == {"rows": [1, None, "ü"]}
    assert write_document(project, "c", {}).fingerprint != one.fingerprint
