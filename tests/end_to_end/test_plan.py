"""``ser-kedro plan``, as a user calls it."""

import shutil
from pathlib import Path

import pytest

pytestmark = pytest.mark.end_to_end

CONFIGS = Path(__file__).parents[1] / "configs"
HUB = {
    "llama3_8b": "models--meta-llama--Meta-Llama-3-8B",
    "llama2_70b": "models--meta-llama--Llama-2-70b-hf",
}
COMMIT = "0" * 40


@pytest.fixture(scope="module")
def hub_cache(tmp_path_factory):
    """A cache of the hub that holds configurations and no weight."""
    home = tmp_path_factory.mktemp("hub")
    for name, folder in HUB.items():
        model = home / "hub" / folder
        (model / "refs").mkdir(parents=True)
        (model / "refs" / "main").write_text(COMMIT)
        shutil.copytree(CONFIGS / name, model / "snapshots" / COMMIT)
    return {"HF_HOME": str(home)}


@pytest.fixture
def plan(python):
    def call(*args, cwd, env=None):
        return python("-m", "ser_kedro", "plan", *args, cwd=cwd, env=env)

    return call


def files(project):
    return {path for path in project.rglob("*") if "__pycache__" not in path.parts}


def test_starts_nothing(plan, fresh):
    before = files(fresh)
    done = plan(cwd=fresh)
    assert done.returncode == 0, done.stderr
    assert "Plan of demo on 1 device x " in done.stdout
    assert "Jobs in the store already: none; next is data_split." in done.stdout
    assert "Optimiser steps: unknown" in done.stdout
    assert files(fresh) == before


def test_knows_what_is_done(plan, finished):
    done = plan("--env", "test", cwd=finished)
    assert done.returncode == 0, done.stderr
    assert "data_split 1, reward_model " in done.stdout
    assert "nothing is left to do up to the evaluation." in done.stdout
    assert "Optimiser steps: sft " in done.stdout


def test_another_parameter_needs_other_jobs(plan, finished):
    done = plan("--env", "test", "--params", "reward.epochs=3", cwd=finished)
    assert "already: data_split 1, sft 1; next is reward_model." in done.stdout


@pytest.mark.parametrize(("model", "devices"), [("llama3_8b", 8), ("llama2_70b", 16)])
def test_models_of_the_paper_fit(plan, snapshot, hub_cache, model, devices):
    options = ("--params", f"model={model}", "--devices", devices, "--zero", 3)
    memory = ("--device-memory", "80GB")
    done = plan(*options, *memory, cwd=snapshot, env=hub_cache)
    assert done.returncode == 0, done.stderr
    for stage in ("sft", "reward training", "labelling"):
        assert f"{stage} fits: " in done.stdout


def test_warns_and_refuses_nothing(plan, snapshot, hub_cache):
    options = ("--params", "model=llama2_70b", "--device-memory", "24GB")
    done = plan(*options, "--env", "hh_rlhf", cwd=snapshot, env=hub_cache)
    assert done.returncode == 0, done.stderr
    assert "WARNING: reward training does not fit" in done.stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--params", "model=nosuch/model"), "model=nosuch/model: cannot be loaded"),
        (("--params", "launcher=nosuch"), "launcher=nosuch: no such launcher ("),
        (("--params", "reward.epoch=3"), "did you mean reward.epochs?"),
        (("--device-memory", "much"), "--device-memory much: no size"),
        (("--offload", "optimizer"), "needs ZeRO"),
        (("--env", "nosuch"), "--env nosuch: no such environment"),
    ],
)
def test_a_mistake_is_one_line(plan, snapshot, options, said):
    done = plan(*options, cwd=snapshot)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("Error: ")
    assert said in done.stderr.splitlines()[-1]


def test_devices_of_a_launcher(plan, fresh):
    folder = fresh / "conf" / "base" / "presets" / "launcher"
    folder.mkdir(parents=True, exist_ok=True)
    (fresh / "conf" / "launch").mkdir(exist_ok=True)
    (fresh / "conf" / "launch" / "mine.json").write_text(
        '{"zero_optimization": {"stage": 2}}'
    )
    (folder / "mine.yml").write_text(
        "launcher:\n  kind: torchrun\n  prefix: [srun]\n  processes: 4\n  nodes: 2\n"
        "  deepspeed: conf/launch/mine.json\n"
    )
    options = ("--params", "launcher=mine", "--device-memory", "80GB")
    done = plan(*options, cwd=fresh)
    assert done.returncode == 0, done.stderr
    assert "on 8 devices x 80.0 GB, ZeRO-2" in done.stdout


def test_a_launcher_whose_file_is_missing(plan, fresh):
    folder = fresh / "conf" / "base" / "presets" / "launcher"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mine.yml").write_text(
        "launcher:\n  kind: deepspeed\n  deepspeed: conf/no.json\n"
    )
    done = plan("--params", "launcher=mine", cwd=fresh)
    assert done.returncode == 2
    assert "its DeepSpeed file conf/no.json is not there" in done.stderr
