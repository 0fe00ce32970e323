"""kedro-viz shows the stages, the loops and the first rows of their data."""

import json
import shutil

import pytest

pytestmark = pytest.mark.end_to_end

LOOPS = [f"self_evolve.loop_{loop}" for loop in range(1, 5)]
STEPS = ["self_label", "select", "retrain", "judge_progress"]


@pytest.fixture(scope="module")
def built(finished, kedro, tmp_path_factory):
    """The API of a built site, in a copy in which ``self_evolve`` ran."""
    project = tmp_path_factory.mktemp("viz") / "project"
    shutil.copytree(finished, project)
    env = {"KEDRO_ENV": "test"}
    done = kedro("viz", "build", "--include-previews", cwd=project, env=env)
    assert done.returncode == 0, done.stderr
    assert "could not be previewed" not in done.stderr
    return project / "build" / "api"


@pytest.fixture(scope="module")
def graph(built):
    return json.loads((built / "main").read_text())


def shown(built, graph, name):
    """What viz knows of a dataset beyond its name."""
    (node,) = (n for n in graph["nodes"] if n["type"] == "data" and n["name"] == name)
    return json.loads((built / "nodes" / node["id"]).read_text())


def test_shows_the_loops_with_their_steps(graph):
    assert {"self_evolve", *LOOPS} <= set(graph["modular_pipelines"])
    tasks = [n for n in graph["nodes"] if n["type"] == "task"]
    for loop in LOOPS:
        inside = [n["name"] for n in tasks if loop in (n["modular_pipelines"] or [])]
        assert sorted(inside) == sorted(STEPS)


def test_shows_the_layers_in_order(graph):
    layers = ["raw", "primary", "models", "model_output", "reporting"]
    assert graph["layers"] == layers
    data = [node for node in graph["nodes"] if node["type"] == "data"]
    assert [node["name"] for node in data if node["layer"] not in layers] == []


def test_shows_every_pipeline(graph):
    names = {pipeline["name"] for pipeline in graph["pipelines"]}
    stages = {"data_split", "sft", "seed_rm", "pool", "self_evolve", "evaluation"}
    policy = {"policy", "ppo", "policy_evaluation", "policy_comparison"}
    others = {"__default__", "loops", "ablations", "label_efficiency", "results"}
    assert stages | policy | others | {"acquisition"} == names


@pytest.mark.parametrize(
    "name",
    [
        *("raw_preferences", "unlabeled_pairs", "reward_model", "evolution_history"),
        "self_evolve.loop_1.selection",
    ],
)
def test_shows_first_rows(built, graph, name):
    preview = shown(built, graph, name)["preview"]
    assert preview["columns"] and preview["data"]


def test_shows_the_figure(built, graph):
    assert shown(built, graph, "evolution_figure")["preview"]["data"]


def test_builds_before_anything_ran(fresh, kedro):
    done = kedro("viz", "build", cwd=fresh)
    assert done.returncode == 0, done.stderr
    graph = json.loads((fresh / "build" / "api" / "main").read_text())
    assert set(LOOPS) <= set(graph["modular_pipelines"])
