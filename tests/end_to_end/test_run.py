"""The run of a user: what runs, what it prints, and what the catalog holds."""

import json
from pathlib import Path

import pandas as pd
import pytest

from ser_kedro.preferences.demo_world.world import WorldParams, draw_pairs

pytestmark = pytest.mark.end_to_end

COLUMNS = [
    *("loop", "status", "selected", "pool_left", "validation_accuracy"),
    *("test_accuracy", "test_accuracy_low", "test_accuracy_high"),
    *("stop_reason", "selected_model"),
]
MODELS = ("sft_model", "seed_reward_model", "reward_model")
TABLES = (
    *("sft_pairs", "labeled_pairs", "validation_pairs", "unlabeled_pairs"),
    *("audit_labels", "test_pairs", "ppo_prompts"),
)
FRAMES = ("evolution_history",)
OTHERS = (
    *("loop_history", "data_report", "evolution_summary", "evolution_figure"),
    *("diagnostics", "benchmark_results", "reliability_figure", "length_figure"),
)

# What a user types into plain Python; prints the kind of what every name loads as.
SESSION = """
import json
from pathlib import Path
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

bootstrap_project(Path.cwd())
with KedroSession.create(env="test") as session:
    catalog = session.load_context().catalog
    loaded = {}
    for name in NAMES:
        item = catalog.load(name)
        loaded[name] = {"type": type(item).__name__}
        if hasattr(item, "open"):
            table = item.open()
            loaded[name] |= {"rows": item.rows, "mapped": len(table.cache_files)}
            loaded[name]["columns"] = table.column_names
        if hasattr(item, "base_model"):
            loaded[name] |= {
                "path": str(item.location), "there": item.location.is_dir(),
                "fingerprint": item.fingerprint, "base_model": item.base_model,
                "metrics": item.metrics,
            }
    model = catalog.load("reward_model")
    loaded["parameters"] = sum(p.numel() for p in model.load_model().parameters())
print(json.dumps(loaded, default=str))
"""
PREVIEWS = """
import json
from pathlib import Path
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

bootstrap_project(Path.cwd())
with KedroSession.create(env="test") as session:
    catalog = session.load_context().catalog
    shown = {}
    for name in sorted(pipelines["__default__"].datasets()):
        dataset = catalog.get(name)
        if hasattr(dataset, "preview"):
            shown[name] = dataset.preview()
print(json.dumps(shown))
"""


def file(project, name, root="data/test"):
    (place,) = project.glob(f"{root}/0*/{name}")
    return max(place.iterdir()) / name


def history(project):
    return pd.read_parquet(file(project, "evolution_history.parquet"))


@pytest.fixture(scope="module")
def loaded(finished, python):
    names = [*MODELS, *TABLES, *FRAMES, *OTHERS, "raw_preferences"]
    names += ["self_evolve.loop_1.selection", "self_evolve.loop_1.reward_model"]
    done = python("-", cwd=finished, input=f"NAMES = {names}\n{SESSION}")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_prints_the_summary_at_the_end(first_run):
    project, done = first_run
    summary = file(project, "evolution_summary.md").read_text("utf-8")
    assert done.stdout.rstrip().endswith(summary.rstrip())
    assert done.stdout.count("| loop ") == 1


def test_says_what_was_gained_and_what_it_cost(first_run):
    project, _ = first_run
    summary = file(project, "evolution_summary.md").read_text("utf-8")
    assert "All human labels, no evolution → evolved" in summary
    assert "Human labels used:" in summary and "SFT consumed" in summary


def test_logs_are_readable(first_run):
    lines = first_run[1].stderr.splitlines()
    assert 8 < len(lines) < 40
    assert all(" INFO " in line or " WARNING " in line for line in lines)


def test_history_has_one_row_a_loop(finished):
    frame = history(finished)
    assert set(COLUMNS) <= set(frame.columns)
    assert frame["loop"].tolist() == [0, 1, 2, 3, 4, 5]
    assert frame["status"].iloc[0] == "seed"
    # Labels are held out here, so loop 0 had not all of them.
    assert frame["status"].iloc[-1] == "all labels"
    assert frame["selected_model"].sum() == 1
    assert frame["stop_reason"].notna().sum() == 1


def test_at_least_two_loops_train(finished):
    trained = history(finished).dropna(subset=["test_accuracy"])
    trained = trained[trained["status"] != "all labels"]
    assert len(trained) >= 3
    assert (trained["selected"].iloc[1:] > 0).all()


def test_figures_agree_with_one_another(finished):
    frame = history(finished)
    trained = frame.dropna(subset=["test_accuracy"])
    assert (trained["test_accuracy_low"] <= trained["test_accuracy"]).all()
    assert (trained["test_accuracy"] <= trained["test_accuracy_high"]).all()
    assert frame["pool_left"].is_monotonic_decreasing
    pool = json.loads(file(finished, "data_report.json").read_text())["tables"]
    taken = frame["selected"].sum() / pool["unlabeled_pairs"]
    assert frame["pool_left"].iloc[-1] == pytest.approx(1 - taken)


def test_status_and_outcome_agree(finished):
    frame = history(finished)
    stopped = False
    for row in frame.iloc[1:-1].itertuples():
        assert (row.outcome == "skipped") == stopped == (row.status == "-")
        if row.outcome == "no_confident_pairs":
            assert row.status == "stop" and row.selected == 0
        elif not stopped:
            assert row.status in ("1", "2") and row.selected > 0
        stopped = stopped or pd.notna(row.stop_reason)
    kept = frame.loc[frame["selected_model"]].iloc[0]
    assert kept["outcome"] in ("seed", "improved")
    improved = frame.loc[frame["outcome"].isin(["seed", "improved"]), "loop"]
    assert kept["loop"] == improved.max()


def test_kept_model_is_the_one_of_the_table(finished):
    kept = history(finished).loc[lambda frame: frame["selected_model"], "loop"].iloc[0]
    records = json.loads(file(finished, "loop_history.json").read_text())["records"]
    reward_model = json.loads(file(finished, "reward_model.json").read_text())
    assert reward_model == records[kept]["model"]


@pytest.mark.parametrize("name", MODELS)
def test_model_references_say_what_is_known(finished, name):
    reference = json.loads(file(finished, f"{name}.json").read_text())
    assert (finished / reference["path"]).is_dir()
    assert not reference["path"].startswith("/")
    assert len(reference["fingerprint"]) == 32
    assert reference["base_model"] == "test"
    assert reference["metrics"]["steps"] > 0
    if name != "sft_model":
        assert 0 <= reference["metrics"]["validation_accuracy"] <= 1


@pytest.mark.parametrize("name", [*MODELS, "self_evolve.loop_1.reward_model"])
def test_models_load_as_references(loaded, name):
    found = loaded[name]
    assert found["type"] == "ModelRef" and found["there"]
    assert found["fingerprint"] and found["base_model"] == "test" and found["metrics"]
    assert loaded["parameters"] > 1000


@pytest.mark.parametrize("name", [*TABLES, "self_evolve.loop_1.selection"])
def test_tables_load_memory_mapped(loaded, name):
    kind = "SelectionRef" if name.endswith("selection") else "TableRef"
    assert loaded[name]["type"] == kind
    assert loaded[name]["rows"] > 0 and loaded[name]["mapped"] == 1


def test_pool_has_no_label(loaded):
    columns = loaded["unlabeled_pairs"]["columns"]
    assert {"response_a", "response_b"} <= set(columns)
    assert not {"chosen", "rejected", "a_is_chosen"} & set(columns)


def test_other_data_load(loaded):
    kinds = {name: loaded[name]["type"] for name in (*FRAMES, *OTHERS)}
    assert kinds == {
        "evolution_history": "DataFrame",
        "loop_history": "EvolutionState",
        "data_report": "dict",
        "evolution_summary": "str",
        "evolution_figure": "Figure",
        "diagnostics": "dict",
        "benchmark_results": "dict",
        "reliability_figure": "Figure",
        "length_figure": "Figure",
    }
    assert loaded["raw_preferences"]["type"] == "PreferenceSource"


def test_previews_of_all_data(finished, python):
    done = python("-", cwd=finished, input=PREVIEWS)
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout.splitlines()[-1])
    names = {*MODELS, *TABLES, *FRAMES, "raw_preferences", "evolution_figure"}
    names |= {"diagnostics", "benchmark_results", "reliability_figure", "length_figure"}
    loop_data = {
        f"self_evolve.loop_{loop}.{name}"
        for loop in range(1, 5)
        for name in ("scores", "selection", "reward_model")
    }
    assert names | loop_data <= set(shown)
    assert len(shown["raw_preferences"]["data"]) == 5


@pytest.mark.parametrize(
    "arguments",
    [(), ("--pipeline", "self_evolve"), ("--pipelines", "self_evolve,evaluation")],
    ids=["default", "older_spelling", "two"],
)
def test_ways_to_run_it(first_run, kedro, arguments, tmp_path):
    project, first = first_run
    done = kedro("run", "--env", "test", *arguments, cwd=project)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith(first.stdout.rstrip())
    assert "eprecat" not in done.stderr


@pytest.mark.parametrize(
    "part",
    [("--pipelines", "seed_rm"), ("--to-nodes", "self_evolve.loop_1.select")],
)
def test_a_part_of_the_run_prints_no_table(finished, kedro, part):
    done = kedro("run", "--env", "test", *part, cwd=finished)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


def test_ser_kedro_run_is_kedro_run(first_run, python):
    project, first = first_run
    done = python("-m", "ser_kedro", "run", "--env", "test", cwd=project)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith(first.stdout.rstrip())


def test_own_means_the_data_last_used(fresh, kedro, python):
    world = WorldParams(pairs=300, test_pairs=100, phrases=20)
    for name, part in {"first": "train", "second": "test"}.items():
        rows = [
            {"prompt": p.prompt[-1].content, "chosen": p.chosen, "rejected": p.rejected}
            for p in draw_pairs(world, part)
        ]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (fresh / f"{name}.jsonl").write_text(text, "utf-8")
    own = ("run", "--env", "own", "--pipelines", "data_split")
    for params in (
        "path=first.jsonl,format=pairs,test_path=second.jsonl",
        "path=first.jsonl,format=pairs",
    ):
        done = kedro(*own, "--params", params, cwd=fresh)
        assert done.returncode == 0, done.stderr
    # A run that fails is not what was last used.
    assert kedro(*own, "--params", "path=no.jsonl,format=hh", cwd=fresh).returncode == 2
    # An old test set is not joined to new data.
    script = SESSION.partition("    loaded = {}")[0].replace('"test"', '"own"')
    script += "    print(catalog.load('raw_preferences').model_dump_json())\n"
    done = python("-", cwd=fresh, input=script)
    assert done.returncode == 0, done.stderr
    source = json.loads(done.stdout)
    assert Path(source["path"]).name == "first.jsonl"
    assert (source["format"], source["test_path"]) == ("pairs", None)
    done = kedro(*own, cwd=fresh)
    assert done.returncode == 0 and ": reused" in done.stderr


def test_an_environment_keeps_its_results_apart(finished):
    assert list((finished / "data" / "test" / "08_reporting").iterdir())
    assert [path.name for path in (finished / "data" / "08_reporting").iterdir()] == [
        ".gitkeep"
    ]


def test_judges_on_folds_and_keeps_a_committee(fresh, kedro):
    """The shipped defaults; the other tests hold labels out, which is faster."""
    folds = "data_split.validation=crossfit,self_evolve.folds=2"
    # Models that learn nothing, so that the committee is the best there is.
    weak = "self_evolve.labeller=committee,reward.learning_rate=1.0e-9"
    asked = f"{folds},{weak},self_evolve.max_loops=1,ppo.steps=1,ppo.eval_steps=1"
    done = kedro(
        *("run", "--env", "test", "--pipelines", "self_evolve,ppo"),
        *("--params", asked),
        cwd=fresh,
    )
    assert done.returncode == 0, done.stderr
    tables = json.loads(file(fresh, "data_report.json").read_text())["tables"]
    assert tables["validation_pairs"] == 0 < tables["labeled_pairs"]
    summary = file(fresh, "evolution_summary.md").read_text("utf-8")
    assert "All human labels, no evolution → evolved (the committee" in summary
    frame = history(fresh)
    assert frame["status"].iloc[-1] in ("committee", "co-trained")
    assert frame["validation_accuracy"].iloc[[0, 1, -1]].notna().all()
    kept = json.loads(file(fresh, "reward_model.json").read_text())
    assert kept["kind"] == "committee"
    # The policy maximises the committee's rewards.
    (record,) = fresh.glob("data/store/ppo/*/result.json")
    trained = json.loads(record.read_text())["job"]
    assert trained["reward_model"] == kept
