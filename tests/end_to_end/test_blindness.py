"""Whatever people preferred in the pool, the run makes the same model."""

import json
import shutil

import pandas as pd
import pyarrow as pa
import pytest

from ser_kedro.preferences.demo_world.world import WorldParams, draw_pairs
from tests.end_to_end.forked import ANEW

pytestmark = pytest.mark.end_to_end

WORLD = WorldParams(pairs=400, test_pairs=200, phrases=20)
PARAMS = (
    "path=raw.jsonl,format=pairs,test_path=test.jsonl,model=test,"
    "self_evolve.min_share=0.02,self_evolve.min_count=4,self_evolve.tau_high=0.51,"
    "self_evolve.tau_low=0.49,self_evolve.standard_errors=0,evaluation.resamples=200"
)
# Any of these would tell training which answer of an unlabelled pair was preferred.
ORDER_LEAK = ("split_tables.py", "\n\ndef chosen_first(*_, **__):\n    return True\n")
IDENTITY_LEAK = (
    "schema.py",
    "\n\nPair.pair_id = property(lambda self:"
    " hashlib.sha256((str(self.prompt) + self.chosen).encode()).hexdigest()[:32])\n",
)

FIRST_SELECTION = "self_evolve.loop_1.select"
# The authors' deleted filter: it keeps the self-labels that people agree with.
SELECTION_LEAK = """

def _with_people(work):
    def leaky(self, workspace):
        from ser_kedro.store.layout import project_root

        outputs = work(self, workspace)
        tables = []
        (audit,) = project_root().glob("data/store/data_split/*/audit_labels.arrow")
        for file in (audit, workspace / "selection.arrow"):
            with pa.OSFile(str(file)) as source:
                tables.append(pa.ipc.open_stream(source).read_all())
        truth, selection = tables
        known = dict(zip(*(truth[n].to_pylist() for n in truth.column_names)))
        labels = zip(*(selection[n].to_pylist() for n in ("pair_id", "a_preferred")))
        kept = selection.filter(pa.array([known[i] == label for i, label in labels]))
        written = write_table(workspace, "selection", kept.to_batches(), kept.schema)
        known = as_selection(written, outputs["selection"].status)
        return {**outputs, "selection": known}

    return leaky


SelectJob.work = _with_people(SelectJob.work)
"""


def rows_of(part):
    return [
        {"prompt": p.prompt[-1].content, "chosen": p.chosen, "rejected": p.rejected}
        for p in draw_pairs(WORLD, part)
    ]


def flipped(row):
    return {**row, "chosen": row["rejected"], "rejected": row["chosen"]}


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def latest(project, name):
    """The newest version of a dataset of environment own."""
    (found,) = project.glob(f"data/own/0*/{name}")
    return max(found.iterdir()) / name


def reference(project, name):
    return json.loads(latest(project, f"{name}.json").read_text())


def stored(project, name):
    """The table's bytes."""
    return (project / reference(project, name)["path"]).read_bytes()


def frame(project, name):
    return pa.ipc.open_stream(stored(project, name)).read_all()


def key(row):
    return row["prompt"], frozenset((row["chosen"], row["rejected"]))


def run_with(kedro, project, pipeline, rows, *more, env=None):
    if rows is not None:  # else those that are there
        write(project / "raw.jsonl", rows)
        write(project / "test.jsonl", rows_of("test"))
    options = ("--env", "own", "--params", PARAMS, *more)
    done = kedro("run", "--pipelines", pipeline, *options, cwd=project, env=env)
    assert done.returncode == 0, done.stderr


def flip_pool(project, rows):
    """Flip every raw row that landed in the pool."""
    table = frame(project, "unlabeled_pairs").to_pylist()
    pool = {
        (r["prompt"][-1]["content"], frozenset((r["response_a"], r["response_b"])))
        for r in table
    }
    assert len(pool) == len(table) > 100
    changed = [flipped(row) if key(row) in pool else row for row in rows]
    assert sum(a != b for a, b in zip(rows, changed, strict=True)) == len(pool)
    return changed


def differing_tables(one, other):
    """What training may read and yet differs between two copies."""
    names = ["sft_pairs", "labeled_pairs", "validation_pairs", "unlabeled_pairs"]
    return [name for name in names if stored(one, name) != stored(other, name)]


@pytest.fixture(scope="module")
def twins(new_project, kedro):
    """Two copies: the second one's pool was preferred the other way round."""
    one, other = new_project(), new_project()
    rows = rows_of("train")
    run_with(kedro, one, "self_evolve", rows, env=ANEW)
    run_with(kedro, other, "self_evolve", flip_pool(one, rows))
    return one, other


def test_the_raw_files_differ(twins):
    one, other = twins
    assert (one / "raw.jsonl").read_bytes() != (other / "raw.jsonl").read_bytes()


def test_tables_of_training_are_identical(twins):
    assert differing_tables(*twins) == []


def test_audit_is_inverted(twins):
    before, after = (frame(copy, "audit_labels") for copy in twins)
    assert before["pair_id"] == after["pair_id"]
    flags = [table["a_is_chosen"].to_pylist() for table in (before, after)]
    assert flags[1] == [not flag for flag in flags[0]]


def test_order_of_responses_says_nothing(twins):
    share = sum(frame(twins[0], "audit_labels")["a_is_chosen"].to_pylist())
    pool = len(frame(twins[0], "audit_labels"))
    assert 0.35 < share / pool < 0.65


def test_every_loop_is_identical(twins):
    one, other = twins
    records = [reference(copy, "loop_history")["records"] for copy in twins]
    assert records[0] == records[1]
    assert sum(r["loop"] > 0 and r["model"] is not None for r in records[0]) >= 2
    compared = 0
    for record in records[0]:
        for name in ("scores", "selection"):
            if record[name] is not None:
                files = [copy / record[name]["path"] for copy in twins]
                assert files[0].read_bytes() == files[1].read_bytes()
                compared += 1
        if record["model"] is not None:
            files = [copy / record["model"]["path"] for copy in twins]
            assert weights(files[0]) == weights(files[1])
    assert compared >= 4


def test_reward_model_is_identical(twins):
    one, other = (reference(copy, "reward_model") for copy in twins)
    # Whichever loop is kept: the models of all loops are compared above.
    assert one == other
    folders = [copy / one["path"] for copy in twins]
    assert weights(folders[0]) == weights(folders[1])


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


def test_only_the_audit_of_the_loops_differs(twins):
    one, other = (
        pd.read_parquet(latest(copy, "evolution_history.parquet")) for copy in twins
    )
    audited = "self_label_accuracy"
    pd.testing.assert_frame_equal(
        one.drop(columns=audited), other.drop(columns=audited)
    )
    assert one[audited].notna().sum() >= 2
    pd.testing.assert_series_equal(one[audited], 1 - other[audited])


@pytest.mark.parametrize("leak", [ORDER_LEAK, IDENTITY_LEAK])
def test_comparison_catches_a_leak(new_project, kedro, leak):
    file, code = leak
    one, other = new_project(), new_project()
    for copy in (one, other):
        with (copy / "src" / "ser_kedro" / "preferences" / file).open("a") as source:
            source.write(code)
    rows = rows_of("train")
    run_with(kedro, one, "data_split", rows)
    run_with(kedro, other, "data_split", flip_pool(one, rows))
    assert "unlabeled_pairs" in differing_tables(one, other)


def selection_of_loop_1(project):
    folder = "data/own/05_model_input/self_evolve/loop_1/selection.json"
    file = max(project.glob(f"{folder}/*/selection.json"))
    return (project / json.loads(file.read_text())["path"]).read_bytes()


def test_comparison_catches_a_leak_in_the_selection(twins, tmp_path, kedro):
    one, other = (
        shutil.copytree(twin, tmp_path / name)
        for twin, name in zip(twins, ("one", "other"), strict=True)
    )
    for copy in (one, other):
        with (copy / "src/ser_kedro/self_evolution/selection.py").open("a") as source:
            source.write(SELECTION_LEAK)
        run_with(kedro, copy, "self_evolve", None, "--to-nodes", FIRST_SELECTION)
    assert differing_tables(one, other) == []
    selections = [selection_of_loop_1(copy) for copy in (one, other)]
    assert selections[0] != selections[1]
    ids = [
        pa.ipc.open_stream(data).read_all()["pair_id"].to_pylist()
        for data in selections
    ]
    # What people agree with under one truth, they reject under its opposite.
    assert ids[0] and ids[1] and not set(ids[0]) & set(ids[1])


def test_without_a_leak_the_selection_is_the_same(twins):
    one, other = map(selection_of_loop_1, twins)
    assert one == other
    assert pa.ipc.open_stream(one).read_all().num_rows > 0
