from __future__ import annotations

import functools
import gzip
import http.server
import io
import json
import threading
import zipfile

import pandas as pd
import pytest

from ser_kedro.errors import DataError
from ser_kedro.preferences.files.find import find_files, place_exists, read_records

ROWS = [{"a": f"{n} {'x' * 50}", "b": "é"} for n in range(100)]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def send_head(self):
        if "secret" in self.path:
            self.send_error(403)
            return None
        return super().send_head()


@pytest.fixture
def server(tmp_path):
    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def records(place):
    raws = list(read_records(place))
    assert [raw for raw in raws if raw.reason] == []
    return [raw.record for raw in raws]


class TestWeb:
    def test_kinds(self, tmp_path, server):
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as opened:
            opened.writestr("in.jsonl", LINES)
        contents = {
            "a.jsonl": LINES,
            "a.jsonl.gz": gzip.compress(LINES),
            "a.parquet": pd.DataFrame(ROWS).to_parquet(),
            "a.csv": pd.DataFrame(ROWS).to_csv(index=False).encode(),
            "a.zip": archive.getvalue(),
            "rows": json.dumps({"rows": [{"row": row} for row in ROWS]}).encode(),
        }
        for name, content in contents.items():
            (tmp_path / name).write_bytes(content)

        for name in contents:
            assert records(f"{server}/{name}") == ROWS, name
            assert records(f"{server}/{name}?download=true&split=x") == ROWS, name

    @pytest.mark.parametrize("name", ["big.jsonl", "big.parquet"])
    def test_large_file_from_a_server_that_gives_no_parts(self, tmp_path, server, name):
        rows = [{"a": f"{n} {'x' * 10_000}"} for n in range(1500)]
        if name.endswith("parquet"):
            pd.DataFrame(rows).to_parquet(tmp_path / name, compression=None)
        else:
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (tmp_path / name).write_text(text)

        assert records(f"{server}/{name}") == rows

    def test_what_is_not_there(self, server):
        with pytest.raises(DataError, match=r"/a\.jsonl: cannot be read .*404"):
            read_records(f"{server}/a.jsonl")

    def test_what_is_forbidden(self, server):
        with pytest.raises(DataError, match=r"/secret\.jsonl: cannot be read .*403"):
            read_records(f"{server}/secret.jsonl")

    def test_no_server(self):
        with pytest.raises(DataError, match="cannot be"):
            read_records("http://127.0.0.1:9/a.jsonl")

    def test_identity(self, tmp_path, server):
        (tmp_path / "a.jsonl").write_bytes(LINES)

        (file,) = find_files(f"{server}/a.jsonl?download=true").files

        assert (file.name, file.kind) == ("a.jsonl", "jsonl")
        assert file.fs.checksum(file.path) == file.fs.checksum(file.path)


class TestExists:
    def test_local(self, tmp_path):
        (tmp_path / "a.jsonl").write_bytes(LINES)

        assert place_exists(str(tmp_path / "a.jsonl"))
        assert place_exists(str(tmp_path))
        assert place_exists(f"{tmp_path}?split=test")
        assert not place_exists(str(tmp_path / "b.jsonl"))
        assert not place_exists("nonsense://a.jsonl")
