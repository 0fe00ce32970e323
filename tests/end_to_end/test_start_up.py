"""What the command line costs before anything is done, and what it shows."""

import shutil

import pytest
import yaml

pytestmark = pytest.mark.end_to_end

HEAVY = {"torch", "transformers", "trl", "peft", "accelerate", "sklearn", "scipy"}


def described(done):
    assert done.returncode == 0, done.stderr
    return [
        line[2:].split()[0] for line in done.stdout.splitlines() if line[:2] == "- "
    ]


@pytest.mark.parametrize(
    "command",
    [("registry", "list"), ("registry", "describe", "self_evolve"), ("run", "--help")],
)
def test_starts_without_the_heavy_libraries(snapshot, python, command):
    options = ("-X", "importtime", "-m", "kedro", *command)
    done = python(*options, cwd=snapshot)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}
    assert "kedro" in imported and "ser_kedro" in imported
    assert not imported & HEAVY


def test_lists_the_pipelines(snapshot, kedro):
    names = described(kedro("registry", "list", cwd=snapshot))
    assert {"__default__", "data_split", "sft", "seed_rm", "self_evolve"} <= set(names)
    assert {"evaluation", "ppo", "policy_evaluation", "policy"} <= set(names)


def test_describes_loops_with_four_steps(snapshot, kedro):
    names = described(kedro("registry", "describe", "self_evolve", cwd=snapshot))
    for loop in range(1, 5):
        inside = [n for n in names if n.startswith(f"self_evolve.loop_{loop}.")]
        steps = [name.rpartition(".")[2] for name in inside]
        assert steps == ["self_label", "select", "retrain", "judge_progress"]
    assert not any("loop_5" in name for name in names)


@pytest.mark.parametrize("loops", [1, 7])
def test_the_environment_grows_the_graph(snapshot, kedro, loops):
    env = {"SER_KEDRO_MAX_LOOPS": str(loops)}
    names = described(
        kedro("registry", "describe", "self_evolve", cwd=snapshot, env=env)
    )
    found = {n.split(".")[1] for n in names if n.startswith("self_evolve.loop_")}
    assert found == {f"loop_{loop}" for loop in range(1, loops + 1)}


def test_a_larger_graph_reuses_the_loops(first_run, kedro, tmp_path):
    project = tmp_path / "project"
    shutil.copytree(first_run[0], project)
    env = {"SER_KEDRO_MAX_LOOPS": "5"}
    done = kedro("run", "--env", "test", cwd=project, env=env)
    assert done.returncode == 0, done.stderr
    trained = [line for line in done.stderr.splitlines() if "[reward_model " in line]
    assert len(trained) >= 3
    # The fifth loop alone; what the run is compared with comes after it.
    assert sum(not line.endswith(": reused") for line in trained) <= 1
    assert any(line.startswith("| 5 ") for line in done.stdout.splitlines())


def test_telemetry_is_off(snapshot):
    assert yaml.safe_load((snapshot / ".telemetry").read_text()) == {"consent": False}
