import json
import math

import pytest

from ser_kedro.store.json_io import plain, read_json, write_json


def test_what_is_written_is_read(tmp_path):
    value = {"name": "Zürich 北京", "rows": [1, 2.5, None, True], "deep": {"a": []}}
    file = tmp_path / "new" / "a.json"
    write_json(file, value)
    assert read_json(file) == value
    # People read these files, too.
    assert '"Zürich 北京"' in file.read_text("utf-8")
    assert [path.name for path in file.parent.iterdir()] == ["a.json"]


def test_what_cannot_be_written_leaves_the_old_file(tmp_path):
    file = tmp_path / "a.json"
    write_json(file, [1])
    with pytest.raises(TypeError):
        write_json(file, [object()])
    assert read_json(file) == [1]


def test_numbers_that_json_has_no_word_for():
    value = {"a": [math.nan, 1.5, (math.inf, "x")], "b": {"c": -math.inf, "d": 0}}
    found = plain(value)
    assert found == {"a": [None, 1.5, [None, "x"]], "b": {"c": None, "d": 0}}
    assert json.loads(json.dumps(found, allow_nan=False)) == found
