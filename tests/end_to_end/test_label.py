"""``ser-kedro label``, as a user calls it, from the catalog to a file of labels."""

import json
import signal
import subprocess
import sys
from typing import ClassVar
from urllib.request import Request, urlopen

import pyarrow as pa
import pytest
from kedro.io import Version

from ser_kedro.acquisition.request_job import REQUESTS
from ser_kedro.datasets import ReferenceDataset
from ser_kedro.launch.executor import run
from ser_kedro.store.job import Job
from ser_kedro.store.layout import PROJECT_VARIABLE
from ser_kedro.store.tables import write_table
from tests.labelling.conftest import request_row

pytestmark = pytest.mark.end_to_end


class Asked(Job):
    stage: ClassVar[str] = "label_requests"

    def work(self, workspace):
        rows = [request_row(number) for number in range(2)]
        batches = [pa.RecordBatch.from_pylist(rows, REQUESTS)]
        return {"made": write_table(workspace, "label_requests", batches, REQUESTS)}


@pytest.fixture
def asked(fresh, monkeypatch):
    """A copy in which two pairs are to be labelled."""
    monkeypatch.setenv(PROJECT_VARIABLE, str(fresh))
    place = fresh / "data/test/07_model_output/label_requests.json"
    version = Version(None, "2026-01-01T00.00.00.000Z")
    dataset = ReferenceDataset(filepath=str(place), version=version)
    dataset.save(run(Asked())["made"])
    return fresh


def test_from_the_catalog_to_a_file_of_labels(asked, shell):
    command = ["-m", "ser_kedro", "label", "--env", "test", "--port", "0"]
    with subprocess.Popen(
        [sys.executable, "-u", *command, "--annotator", "ann", "--file", "new.jsonl"],
        cwd=asked,
        env=shell(asked),
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        address = server.stdout.readline().removeprefix("Open ").strip()
        assert address.startswith("http://127.0.0.1:")

        def post(path, **content):
            data = json.dumps({"window": "w", **content}).encode()
            kind = {"Content-Type": "application/json"}
            request = Request(address.replace("/?", f"/{path}?"), data, kind)
            return json.load(urlopen(request))

        question = post("next")["question"]
        asks = {name: question[name] for name in ("pair_id", "repeat")}
        post("answer", **asks, choice="first", seconds=4)
        (label,) = map(json.loads, (asked / "new.jsonl").read_text().splitlines())
        assert label["chosen"] == question["responses"][0]
        assert label["annotator"] == "ann"
        server.send_signal(signal.SIGINT)
        said = server.stdout.read()
    assert server.returncode == 0
    assert "1 of 2 answered: 0 ties, 0 skipped" in said
    assert "Median time: 4.0 s" in said
