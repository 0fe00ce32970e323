"""The password and the key of an address are nowhere in what a run leaves."""

import http.server
import json
import threading

import pytest

pytestmark = pytest.mark.end_to_end

SECRET = "Sw0rdf1sh-0123"
RUN = ("run", "--env", "own", "--pipelines", "data_split", "--params")
PAIRS = "".join(
    json.dumps({"prompt": f"Say {i}.", "chosen": f"Yes, {i}.", "rejected": f"No {i}."})
    + "\n"
    for i in range(300)
)


class Pairs(http.server.BaseHTTPRequestHandler):
    """Gives the pairs to everybody."""

    def _head(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(PAIRS)))
        self.end_headers()

    do_HEAD = _head

    def do_GET(self):
        self._head()
        self.wfile.write(PAIRS.encode())

    def log_message(self, *args):
        pass


@pytest.fixture
def place():
    """An address with a password and a key."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pairs)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://ann:{SECRET}@127.0.0.1:{server.server_port}/x.jsonl?token={SECRET}"
    server.shutdown()


def left_behind(project, done):
    """Where the secret stands, of what a command printed and what lies there."""
    files = [path for path in project.rglob("*") if path.is_file()]
    found = [path for path in files if SECRET.encode() in path.read_bytes()]
    return found + [text for text in (done.stdout, done.stderr) if SECRET in text]


def test_of_data_that_are_read(fresh, kedro, place):
    done = kedro(*RUN, f"model=test,format=pairs,path={place}", cwd=fresh)
    assert done.returncode == 0, done.stderr
    assert "http://ann:***@127.0.0.1" in done.stderr
    assert "secret and is not remembered" in done.stderr
    assert left_behind(fresh, done) == []


def test_of_data_that_are_not_there(fresh, kedro):
    place = f"ftp://ann:{SECRET}@127.0.0.1:1/x.jsonl"
    done = kedro(*RUN, f"model=test,format=pairs,path={place}", cwd=fresh)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("Error: ftp://ann:***@127.0.0.1")
    assert (fresh / ".viz").is_dir()  # kedro-viz writes down what went wrong
    assert left_behind(fresh, done) == []
