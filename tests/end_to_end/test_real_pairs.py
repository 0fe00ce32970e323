"""The whole run on pairs that nobody here wrote, as small as it goes."""

from pathlib import Path

import pandas as pd
import pytest

pytestmark = pytest.mark.end_to_end

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
CASES = {
    "parsed": ("hh_rlhf_base_train.jsonl.gz", "pairs"),
    "raw": ("hh_rlhf_raw_harmless_base.jsonl.gz", "hh"),
}


@pytest.mark.skipif(not DATA.is_dir(), reason="no ../shared/data beside the project")
@pytest.mark.parametrize("case", CASES)
def test_runs_to_the_end(case, fresh, kedro):
    file, format = CASES[case]

    done = kedro(
        *("run", "--pipelines", "self_evolve", "--env", "own", "--params"),
        f"path={DATA / file},format={format},model=test,self_evolve.max_loops=1,"
        "reward.epochs=1",
        cwd=fresh,
    )

    assert done.returncode == 0, done.stderr
    reports = fresh / "data" / "own" / "08_reporting"
    history = pd.read_parquet(next(reports.rglob("evolution_history.parquet/*/*")))
    assert history["test_accuracy"].iloc[0] > 0.4
    assert "Rows (train): " in done.stdout
