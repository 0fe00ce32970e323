"""A rerun is a resume, and after a whole run it trains nothing."""

import json
import os
import shutil
import signal
import time

import pandas as pd
import pytest

from tests.end_to_end.forked import ANEW

pytestmark = pytest.mark.end_to_end

# Long loops with many checkpoints, so that the kill surely hits one of them.
COMMAND = (
    *("run", "--env", "test", "--pipelines", "self_evolve"),
    *("--params", "reward.epochs=8,reward.save_steps=3"),
)
STORE = "data/store"


def folders(project):
    return {str(path.relative_to(project)) for path in project.glob(f"{STORE}/*/[!.]*")}


def begun_loop(project):
    """The workspace of a loop's training with a whole checkpoint, if there is one."""
    models = project / STORE / "reward_model"
    if not any(models.glob("*/result.json")):
        return None  # the seed model is not ready: this is its own training
    states = sorted(models.glob("*.partial/trainer/checkpoint-*/trainer_state.json"))
    return states[0].parents[2] if states else None


def checkpoints(workspace):
    found = workspace.glob("trainer/checkpoint-*/trainer_state.json")
    return sorted((path.parent for path in found), key=lambda p: int(p.name[11:]))


def latest(project, name):
    (place,) = project.glob(f"data/test/0*/{name}")
    return max(place.iterdir()) / name


def history(project):
    return pd.read_parquet(latest(project, "evolution_history.parquet"))


def records(project):
    return json.loads(latest(project, "loop_history.json").read_text())["records"]


def kept(project):
    return json.loads(latest(project, "reward_model.json").read_text())


def weights(project, record):
    return (project / record["model"]["path"] / "model.safetensors").read_bytes()


def model_of(project, fingerprint):
    return project / STORE / "reward_model" / fingerprint / "model/model.safetensors"


@pytest.fixture(scope="module")
def whole(new_project, kedro):
    """A copy whose run was never interrupted."""
    project = new_project()
    done = kedro(*COMMAND, cwd=project, env=ANEW)
    assert done.returncode == 0, done.stderr
    return project


@pytest.fixture(scope="module")
def killed(new_project, start_kedro, tmp_path_factory):
    """A copy whose run was killed in the middle of a loop's training."""
    project = new_project()
    output = tmp_path_factory.mktemp("killed") / "output.txt"
    process = start_kedro(*COMMAND, cwd=project, output=output)
    try:
        while begun_loop(project) is None:
            assert process.poll() is None, output.read_text()
            time.sleep(0.002)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL
    assert begun_loop(project) is not None, "the loop ended before the kill"
    return project


@pytest.fixture(scope="module")
def tampered(killed, tmp_path_factory):
    """The same, where the last checkpoint holds other weights."""
    from safetensors.torch import load_file, save_file

    project = tmp_path_factory.mktemp("tampered") / "project"
    shutil.copytree(killed, project)
    file = checkpoints(begun_loop(project))[-1] / "model.safetensors"
    changed = {name: tensor * 0.5 for name, tensor in load_file(file).items()}
    save_file(changed, file, metadata={"format": "pt"})
    return project


@pytest.fixture(scope="module")
def resumed(killed, tampered, kedro):
    """The killed copy after the same command again, and what it logged."""
    job = begun_loop(killed).name.removesuffix(".partial")
    done = kedro(*COMMAND, cwd=killed)
    assert done.returncode == 0, done.stderr
    return killed, job, done


def test_resumes_the_killed_job(resumed):
    _, job, done = resumed
    assert f" [reward_model {job[:12]}]: resumed" in done.stderr
    assert done.stderr.count(": resumed") == 1
    # What was finished before the kill was not done again.
    for stage in ("data_split", "sft", "scores", "selection"):
        assert f"[{stage} " in done.stderr.split(": resumed")[0]
    assert "started" not in done.stderr.split(": resumed")[0]


def test_goes_on_from_the_checkpoint(resumed, tampered, kedro):
    project, job, _ = resumed
    done = kedro(*COMMAND, "--to-nodes", "self_evolve.loop_1.retrain", cwd=tampered)
    assert done.returncode == 0, done.stderr
    # Had training begun anew, the other weights in the checkpoint would not matter.
    untouched, touched = model_of(project, job), model_of(tampered, job)
    assert untouched.read_bytes() != touched.read_bytes()


def test_ends_like_a_run_that_was_never_killed(whole, resumed):
    project = resumed[0]
    assert records(whole) == records(project)
    pd.testing.assert_frame_equal(history(whole), history(project))
    assert folders(whole) == folders(project)
    trained = [record for record in records(whole) if record["model"]]
    assert len(trained) >= 3
    for record in trained:
        assert weights(whole, record) == weights(project, record)
        if record["selection"]:
            path = record["selection"]["path"]
            assert (whole / path).read_bytes() == (project / path).read_bytes()


def test_leaves_nothing_half_done(resumed):
    assert not [*resumed[0].glob(f"{STORE}/*/*.partial")]
    assert not [*resumed[0].glob(f"{STORE}/*/*.lock")]


def test_the_same_command_again_trains_nothing(whole, kedro):
    before = folders(whole)
    told = latest(whole, "evolution_summary.md").read_text()
    done = kedro(*COMMAND, cwd=whole)
    assert done.returncode == 0, done.stderr
    jobs = [line for line in done.stderr.splitlines() if " INFO " in line]
    assert len(jobs) > 8
    assert all(line.endswith(": reused") for line in jobs), done.stderr
    assert folders(whole) == before
    assert told in done.stdout


def test_refit_of_a_finished_run(whole, kedro, tmp_path):
    """Only what is new is trained: once more, with the labels that chose the loop."""
    project = tmp_path / "project"
    shutil.copytree(whole, project)
    before = folders(project)
    *rest, params = COMMAND
    done = kedro(*rest, f"{params},self_evolve.refit=true", cwd=project)
    assert done.returncode == 0, done.stderr
    made = [name.split("/")[2] for name in folders(project) - before]
    assert made.count("reward_model") == 2 and "selection" not in made
    *loops, last, plain = records(project)
    loops.append(plain)  # what the run is compared with
    assert last["outcome"] == "refit" and last["model"] == kept(project)
    assert [r["model"] for r in loops] == [r["model"] for r in records(whole)]
    row = history(project).iloc[-2]
    assert pd.isna(row["validation_accuracy"]) and 0 < row["test_accuracy"] < 1
    assert "refitted with human labels that the seed model had not" in done.stdout


def test_after_pruning_the_last_run_is_all_there(first_run, kedro, python, tmp_path):
    project = tmp_path / "project"
    shutil.copytree(first_run[0], project)
    for seed in (1, 2):  # of which the newer one stays
        part = ("--pipelines", "data_split", "--params", f"seed={seed}")
        done = kedro("run", "--env", "test", *part, cwd=project)
        assert done.returncode == 0, done.stderr
    before = folders(project)

    pruned = python(
        *("-m", "ser_kedro", "prune", "--keep", "1", "--spare-hours", "0"), cwd=project
    )
    left = folders(project)
    again = kedro("run", "--env", "test", cwd=project)
    told = python("-m", "ser_kedro", "history", cwd=project)

    assert pruned.returncode == 0 and pruned.stdout.startswith("Removed ")
    splits = [len([f for f in each if "data_split" in f]) for each in (before, left)]
    assert splits == [3, 2]
    assert "started" not in again.stderr
    assert again.stdout == first_run[1].stdout
    rows = [line for line in told.stdout.splitlines() if "data/test" in line]
    assert len(rows) == 2  # the one that was kept, and the one after it
