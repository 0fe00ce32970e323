"""The page over HTTP, and what becomes of its labels."""

import json
import re

import pytest
from fastapi.testclient import TestClient

from ser_kedro.labelling.server import create_app
from ser_kedro.preferences.schema import Pair
from ser_kedro.preferences.source import PreferenceSource

TOKEN = "s3cret"


@pytest.fixture
def serve(open_desk):
    """Open the page in a window of its own; each call is a server of its own."""

    def make(**options):
        client = TestClient(create_app(open_desk(**options), TOKEN, "ann"))
        client.params = {"token": TOKEN}
        return client

    return make


def post(client, path, window="w", **content):
    return client.post(f"/{path}", json={"window": window, **content})


def give(client, state, choice, window="w", **more):
    asked = {name: state["question"][name] for name in ("pair_id", "repeat")}
    content = {**asked, "choice": choice, "seconds": 1.5, **more}
    return post(client, "answer", window, **content)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("POST", "/next"),
        ("POST", "/answer"),
        ("POST", "/undo"),
        ("POST", "/release"),
        ("GET", "/docs"),
        ("GET", "/nothing"),
    ],
)
def test_nothing_without_the_token(serve, method, path):
    client = TestClient(serve().app)
    for token in (None, "", "S3cret", "s3cret ", "ünïcode"):
        client.params = {} if token is None else {"token": token}
        assert client.request(method, path).status_code == 403


def test_only_the_pages_own_script_runs(serve):
    page = serve().get("/")
    policy = page.headers["content-security-policy"]
    (nonce,) = set(re.findall(r'nonce="([^"]+)"', page.text))
    assert f"script-src 'nonce-{nonce}'" in policy and "default-src 'none'" in policy
    assert "{{" not in page.text
    assert nonce not in serve().get("/").text
    # Nothing comes from elsewhere.
    assert not re.findall(r"https?://|//[a-z]+\.", page.text)


def test_an_answer_is_on_disk_before_the_next_pair_is_shown(serve, file):
    client = serve()
    state = post(client, "next").json()
    first = state["question"]
    state = give(client, state, "second", annotator="bob").json()
    (label,) = map(json.loads, file.read_text().splitlines())
    assert label["chosen"] == first["responses"][1]
    assert label["annotator"] == "bob"
    assert state["question"]["pair_id"] != first["pair_id"]
    assert state["progress"]["answered"] == 1


def test_what_another_window_has_answered_is_refused(serve):
    client = serve()
    state = post(client, "next").json()
    give(client, state, "tie")
    refused = give(client, state, "tie", "other")
    assert refused.status_code == 409
    assert refused.json()["detail"] == "This pair has its answer already."


def test_undo(serve, file):
    client = serve()
    state = post(client, "next").json()
    number = give(client, state, "first").json()["number"]
    again = post(client, "undo", number=number).json()
    assert again["question"] == state["question"]
    assert file.read_text() == ""
    assert post(client, "undo", number=number).status_code == 409


def test_a_closed_window_gives_its_pair_back(serve):
    client = serve()
    state = post(client, "next", "one").json()
    assert client.post("/release", params={"window": "one"}).status_code == 204
    assert post(client, "next", "two").json()["question"] == state["question"]


@pytest.mark.parametrize("change", [{"choice": "left"}, {"seconds": "soon"}])
def test_what_no_window_says_is_refused(serve, change, file):
    client = serve()
    state = post(client, "next").json()
    asked = {"choice": "tie", **state["question"], "seconds": 1.0, **change}
    assert post(client, "answer", **asked).status_code == 422
    assert file.read_text() == ""


def test_fifty_labels_are_read_as_further_labelled_pairs(serve, rows, file, tmp_path):
    """In a folder, beside the labels that were there before (docs/labelling.md)."""
    folder = tmp_path / "labelled"
    folder.mkdir()
    old = {"prompt": "Who?", "chosen": "Me.", "rejected": "?", "annotator": "old"}
    (folder / "first.jsonl").write_text(json.dumps(old) + "\n")
    wanted = {row["pair_id"]: row["response_a"] for row in rows}
    client = serve(count=53)
    state = post(client, "next").json()
    for choice in ("tie", "skip"):
        state = give(client, state, choice).json()
    number = give(client, state, "first").json()["number"]
    state = post(client, "undo", number=number).json()
    while (question := state["question"]) and state["progress"]["answered"] < 52:
        place = question["responses"].index(wanted[question["pair_id"]])
        state = give(client, state, ("first", "second")[place]).json()
    for written in (file, file.with_name("labels.jsonl.log")):
        written.rename(folder / written.name)

    source = PreferenceSource(path=str(folder))
    reader = source.read("train")
    items = list(source.items("train", reader))
    pairs = [item for item in items if isinstance(item, Pair)]
    new = [pair for pair in pairs if pair.annotator == "ann"]
    assert (len(pairs), len(new)) == (51, 50)
    assert {pair.chosen == wanted[pair.pair_id] for pair in new} == {True}
    assert {(pair.source, pair.probability) for pair in new} == {("pool", 1.0)}
    (tie,) = (item for item in items if not isinstance(item, Pair))
    assert tie.reason == "tie"
    assert not reader.unused  # every text of a label is read
    assert source.unread("train") == [
        ("labels.jsonl.log", "not a kind of data file (.log)")
    ]
