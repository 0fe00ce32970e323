"""Comparisons and the results page, by the real command."""

import json
import re

import pyarrow as pa
import pyarrow.compute
import pytest

from ser_kedro.ablations.outcome_job import OUTCOMES

pytestmark = pytest.mark.end_to_end


def newest(project, path):
    (folder,) = project.glob(f"data/test/*/{path}")
    return json.loads((max(folder.iterdir()) / path).read_text())


def outcomes(project, subject):
    reference = newest(project, f"{subject}.outcomes.json")
    return pa.ipc.open_stream((project / reference["path"]).read_bytes()).read_all()


@pytest.fixture(scope="module")
def project(new_project, kedro):
    project = new_project()
    for name in ("ablations", "label_efficiency"):
        done = kedro("run", "--env", "test", "--pipelines", name, cwd=project)
        assert done.returncode == 0, done.stderr
        # Before the methods run, not after.
        said, ran = (done.stderr.find(s) for s in ("can show a difference", "outcomes"))
        assert (-1 < said < ran) == (name == "ablations")
    return project


def test_every_arm_of_every_draw_is_tested_on_all_pairs(project):
    table = outcomes(project, "ablation")
    assert table.schema.equals(OUTCOMES)
    counts = table.group_by(["method", "seed", "share"]).aggregate([([], "count_all")])
    methods = ("seed", "ser", "full")
    assert {(row["method"], row["seed"]) for row in counts.to_pylist()} == {
        (method, seed) for method in methods for seed in (0, 1)
    }
    assert set(counts["count_all"].to_pylist()) == {200}
    assert set(counts["share"].to_pylist()) == {0.15}
    pairs = [
        table.filter(pa.compute.equal(table["seed"], seed))["pair_id"].unique()
        for seed in (0, 1)
    ]
    assert not set(pairs[0].to_pylist()) & set(pairs[1].to_pylist())


def test_history_tells_the_loops(project):
    rows = newest(project, "ablation.history.json")
    seeds = [row for row in rows if row["method"] == "seed"]
    assert [row["seed"] for row in seeds] == [0, 1]
    assert all(row["kept"] and row["loop"] == 0 for row in seeds)
    assert all(row["loop_accuracy"] == row["test_accuracy"] for row in seeds)
    full = next(row for row in rows if row["method"] == "full")
    assert full["human_labels"] > 5 * seeds[0]["human_labels"]


def test_label_efficiency_is_seed_and_ser_by_share(project):
    table = outcomes(project, "efficiency")
    found = set(
        zip(*(table[n].to_pylist() for n in ("method", "share", "seed")), strict=True)
    )
    assert found == {
        (method, share, seed)
        for method, share in (
            ("seed", 0.15),
            ("ser", 0.15),
            ("seed", 1.0),
        )
        for seed in (0, 1)
    }


def test_the_page_of_what_there_is(project, kedro):
    done = kedro("run", "--env", "test", "--pipelines", "results", cwd=project)
    assert done.returncode == 0, done.stderr
    folder = project / "data" / "test" / "08_reporting" / "results"
    page = (folder / "results.md").read_text()
    assert "Written by `kedro run --pipelines results` (commit " in page
    assert "**Development**: seeds 0, 1." in page
    assert "**Confirmation**: not run." in page
    links = re.findall(r"\((figures/\w+\.svg)\)", page)
    assert len(links) == 2
    assert all((folder / link).read_text().startswith("<svg") for link in links)
    rows = json.loads((folder / "results.json").read_text())
    assert {row["phase"] for row in rows} == {"development"}
    assert {(row["study"], row["method"], row["share"]) for row in rows} == {
        *(("methods", name, 0.15) for name in ("seed", "ser", "full")),
        *(("efficiency", name, 0.15) for name in ("seed", "ser")),
        ("efficiency", "seed", 1.0),
    }


def test_policies_against_three_reward_models(project, kedro):
    done = kedro(
        "run", "--env", "test", "--pipelines", "policy_comparison", cwd=project
    )
    assert done.returncode == 0, done.stderr
    found = newest(project, "policy_comparison.json")
    assert [row["seed"] for row in found["seeds"]] == [0]
    assert set(found["seeds"][0]["gold"]) == {"sft", "kept", "seed", "evolved", "full"}
    assert len(found["overoptimisation"]["steps"]) == 6
    folder = project / "data" / "test" / "08_reporting" / "policy"
    assert "## Reward models at matched KL" in (folder / "policy.md").read_text()
    drawn = (folder / "figures" / "overoptimisation.svg").read_text()
    assert drawn.startswith("<svg")


def test_a_page_of_nothing_is_one_line(new_project, kedro):
    done = kedro("run", "--pipelines", "results", cwd=new_project())
    assert done.returncode == 2
    line = done.stderr.splitlines()[-1]
    assert "all_histories: nothing was made yet" in line
    assert "kedro run --pipelines ablations first" in line


def test_running_it_again_reuses_everything(project, kedro):
    done = kedro("run", "--env", "test", "--pipelines", "ablations", cwd=project)
    assert done.returncode == 0, done.stderr
    assert ": reused" in done.stderr and ": started" not in done.stderr


def test_an_unknown_arm_is_one_line(project, kedro):
    file = project / "conf" / "test" / "parameters.yml"
    known = file.read_text()
    file.write_text(known.replace("full", "fall"))
    done = kedro("run", "--env", "test", "--pipelines", "ablations", cwd=project)
    file.write_text(known)
    assert done.returncode == 2
    assert "ablations: there is no method fall" in done.stderr.splitlines()[-1]
