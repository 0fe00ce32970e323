"""What the command line costs before anything is done, and what it shows."""

import shutil
from pathlib import Path

import pytest
import yaml

from ser_kedro.evaluation.params import EvaluationParams
from ser_kedro.policy.ppo_params import PpoParams
from ser_kedro.policy_evaluation.judge.params import JudgeParams
from ser_kedro.policy_evaluation.params import PolicyEvaluationParams
from ser_kedro.preferences.demo_world.world import WorldParams
from ser_kedro.preferences.split import SplitParams
from ser_kedro.self_evolution.params import EvolutionParams
from ser_kedro.training.params import ModelParams, RewardParams, SftParams

pytestmark = pytest.mark.end_to_end

BASE = Path(__file__).parents[2] / "conf" / "base"
PRESETS = sorted((BASE / "presets" / "model").glob("*.yml"))
HEAVY = {"torch", "transformers", "trl", "peft", "accelerate"}
# All of base, with the preset of the model above it.
SECTIONS = {
    "model": ModelParams,
    "sft": SftParams,
    "reward": RewardParams,
    "self_evolve": EvolutionParams,
    "data_split": SplitParams,
    "evaluation": EvaluationParams,
    "ppo": PpoParams,
    "policy_evaluation": PolicyEvaluationParams,
}


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
    assert {"evaluation", "ppo", "policy_evaluation"} <= set(names)


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
    trained = [line for line in done.stderr.splitlines() if " reward_model " in line]
    assert len(trained) >= 3
    assert all(line.endswith(": reused") for line in trained[:-1])
    assert any(line.startswith("| 5 ") for line in done.stdout.splitlines())


def listed(preset):
    sections = {}
    for file in [*BASE.glob("*/parameters.yml"), BASE / "parameters.yml", preset]:
        for name, value in (yaml.safe_load(file.read_text("utf-8")) or {}).items():
            if isinstance(value, dict):
                sections.setdefault(name, {}).update(value)
    return sections


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
@pytest.mark.parametrize("section", SECTIONS)
def test_conf_lists_every_parameter(preset, section):
    """What is not listed could not be given: unknown parameters are errors."""
    fields = set(SECTIONS[section].model_fields)
    # The name of a model is the one word that chose the preset.
    given = set(listed(preset)[section]) | ({"name"} if section == "model" else set())
    assert given == fields


def test_conf_lists_every_parameter_of_the_judge():
    text = (BASE / "policy_evaluation" / "parameters.yml").read_text("utf-8")
    judge = yaml.safe_load(text)["policy_evaluation"]["judge"]
    assert set(judge) == set(JudgeParams.model_fields)
    # But for the model, which switches it on, they are the defaults.
    given = JudgeParams.model_validate(judge | {"model": "m"})
    assert given == JudgeParams(model="m")


def test_conf_lists_every_knob_of_the_world():
    text = (BASE / "data_split" / "parameters.yml").read_text("utf-8")
    world = yaml.safe_load(text)["data"]["world"]
    assert set(world) == set(WorldParams.model_fields)


def test_telemetry_is_off(snapshot):
    assert yaml.safe_load((snapshot / ".telemetry").read_text()) == {"consent": False}
