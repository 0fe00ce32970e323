"""Benchmarks in a real run."""

import json
import shutil

import pytest
import yaml

pytestmark = pytest.mark.end_to_end

RM_BENCH = [
    {"id": f"chat_{n}", "prompt": f"What is {n} and {n}?", "domain": "chat"}
    | {"chosen": [f"{2 * n}", f"It is {2 * n}.", f"**{2 * n}**"]}
    | {"rejected": [f"{n}", f"It is {n}.", f"**{n}**"]}
    for n in range(1, 9)
]
PAIRS = [
    {"prompt": f"Say {n}.", "chosen": f"Yes, {n}.", "rejected": f"No, not {n}."}
    for n in range(20)
]
EVALUATE = ("run", "--env", "test", "--pipelines", "evaluation")
TESTS = [
    {"name": "styles", "format": "rm_bench", "path": "styles.jsonl"},
    {"name": "mine", "format": "pairs", "path": "mine.jsonl"},
]


@pytest.fixture
def project(finished, tmp_path):
    """A copy in which ``self_evolve`` ran, with two benchmarks."""
    copy = shutil.copytree(finished, tmp_path / "project")
    for name, rows in (("styles", RM_BENCH), ("mine", PAIRS)):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (copy / f"{name}.jsonl").write_text(text, "utf-8")
    file = copy / "conf" / "test" / "parameters.yml"
    parameters = yaml.safe_load(file.read_text("utf-8"))
    parameters["evaluation"]["benchmarks"] = TESTS
    file.write_text(yaml.safe_dump(parameters), "utf-8")
    return copy


def test_are_reported_in_their_own_sections(project, kedro):
    done = kedro(*EVALUATE, cwd=project)
    assert done.returncode == 0, done.stderr
    folder = project / "data/test/08_reporting/benchmark_results.json"
    styles, mine = json.loads(
        (max(folder.iterdir()) / "benchmark_results.json").read_text()
    )["benchmarks"]
    assert (styles["name"], styles["kept"]["items"]) == ("styles", 8)
    assert set(styles["kept"]["sections"]["chat"]) == {
        *("easy", "normal", "hard", "average"),
    }
    assert (mine["name"], mine["seed"]["items"]) == ("mine", 20)
    assert "- styles (rm_bench, 8 items): seed " in done.stdout
    assert "  - chat: easy " in done.stdout


def test_that_are_not_there_are_said_at_once(project, kedro):
    (project / "mine.jsonl").unlink()
    done = kedro(*EVALUATE, cwd=project)
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith("Error: evaluation.benchmarks.1=")
    assert "mine.jsonl is not there; give the file" in last
    assert "Traceback" not in done.stderr


def test_that_cannot_be_read_are_said_before_anything_runs(project, kedro):
    rows = [{"prompt": "Hello?", "text": "Hi."}]
    (project / "styles.jsonl").write_text(json.dumps(rows[0]) + "\n", "utf-8")
    done = kedro(*EVALUATE, cwd=project)
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith("Error: evaluation.benchmarks styles: no usable row in")
    assert "(1 missing_keys)" in last
    assert "Running node" not in done.stderr
