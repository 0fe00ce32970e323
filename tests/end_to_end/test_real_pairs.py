"""Runs on pairs that nobody here wrote, as small as it goes."""

import json
from pathlib import Path

import pandas as pd
import pytest

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
pytestmark = [
    pytest.mark.end_to_end,
    pytest.mark.skipif(not DATA.is_dir(), reason="no ../shared/data here"),
]


@pytest.fixture
def run_on(fresh, kedro):
    """Run a pipeline on a file; return the newest report of a name, and the output."""

    def run(file, format, pipeline, name):
        done = kedro(
            *("run", "--pipelines", pipeline, "--env", "own", "--params"),
            f"path={DATA / file},format={format},model=test,self_evolve.max_loops=1,"
            "reward.epochs=1",
            cwd=fresh,
        )
        assert done.returncode == 0, done.stderr
        (report,) = (fresh / "data" / "own" / "08_reporting").rglob(f"{name}/*/*")
        return report, done.stdout

    return run


def test_evolves_to_the_end(run_on):
    name = "evolution_history.parquet"
    report, said = run_on("hh_rlhf_base_train.jsonl.gz", "pairs", "self_evolve", name)
    assert pd.read_parquet(report)["test_accuracy"].iloc[0] > 0.4
    assert "Rows (train): " in said


def test_splits_the_original_format(run_on):
    file = "hh_rlhf_raw_harmless_base.jsonl.gz"
    report, _ = run_on(file, "hh", "data_split", "data_report.json")
    rows = json.loads(report.read_text())["rows"]["train"]
    assert rows["read"] == 2312
    assert rows["read"] == rows["kept"] + sum(rows["dropped"].values())
    assert rows["dropped"] == {"empty_answer": 4, "histories_differ": 5}
