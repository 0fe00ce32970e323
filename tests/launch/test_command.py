import json
import socket
import sys
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from ser_kedro.errors import ParameterError
from ser_kedro.launch import command
from ser_kedro.launch.params import LauncherParams
from ser_kedro.store.layout import PROJECT_VARIABLE

ROOT = Path(__file__).parents[2]
PRESETS = sorted((ROOT / "conf" / "base" / "presets" / "launcher").glob("*.yml"))
STORED = Path(__file__).with_name("commands.json")
PLACES = command.Places(
    project=Path("/project"),
    logs=Path("/project/data/store/reward/f.logs/1"),
    workspace=Path("/project/data/store/reward/f.partial"),
    python="/venv/bin/python",
    host="host",
    port=29500,
    hosts=("worker-1", "worker-2", "worker-3"),
)


def preset(file):
    text = file.read_text("utf-8")
    return LauncherParams(name=file.stem, **yaml.safe_load(text)["launcher"])


def rendered(params, places=PLACES):
    return {
        "argv": command.argv(params, places),
        "environment": command.environment(params, places, {}, "marker", ["/src"]),
    }


def environment(inherited, params=None):
    params = params or LauncherParams(kind="torchrun")
    return command.environment(params, PLACES, inherited, "marker", [Path("/src")])


@pytest.mark.parametrize("file", PRESETS, ids=lambda file: file.stem)
def test_the_command_of_a_preset_is_the_stored_one(file):
    params = preset(file)
    if params.kind == "inline":
        return

    assert rendered(params) == json.loads(STORED.read_text("utf-8"))[file.stem]


def test_every_preset_of_the_issue_is_there():
    assert {file.stem for file in PRESETS} == {"inline"} | set(
        json.loads(STORED.read_text("utf-8"))
    )


@pytest.mark.parametrize(
    "name",
    [
        *("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK"),
        *("NODE_RANK", "CROSS_SIZE", "MASTER_ADDR", "MASTER_PORT", "ROLE_NAME"),
        *("TORCHELASTIC_RUN_ID", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK"),
        *("MV2_COMM_WORLD_RANK", "ACCELERATE_USE_DEEPSPEED", "SLURM_PROCID"),
        *("SLURM_LOCALID", "SLURM_NODEID", "SLURM_STEP_ID", "SER_KEDRO_DEEPSPEED"),
    ],
)
def test_an_outer_launchers_variable_is_dropped(name):
    assert name not in environment({name: "3"})


@pytest.mark.parametrize(
    "name", ["SLURM_JOB_ID", "SLURM_JOB_NODELIST", "HF_HUB_OFFLINE", "PATH", "FRANK"]
)
def test_other_variables_stay(name):
    assert environment({name: "3"})[name] == "3"


def test_imports_find_our_package_first():
    assert environment({"PYTHONPATH": "/theirs"})["PYTHONPATH"] == "/src:/theirs"


def test_a_presets_variables_win():
    params = LauncherParams(kind="torchrun", threads=4, environment={"A": "new"})

    whole = environment({"A": "old", "OMP_NUM_THREADS": "1"}, params)

    assert (whole["A"], whole["OMP_NUM_THREADS"]) == ("new", "4")


@pytest.mark.parametrize("kind", ["torchrun", "accelerate"])
def test_devices_are_told_by_the_environment(kind):
    params = LauncherParams(kind=kind, processes=2, devices=(2, 3))

    assert environment({}, params)["CUDA_VISIBLE_DEVICES"] == "2,3"
    assert not [word for word in command.argv(params, PLACES) if "2,3" in word]


@pytest.mark.parametrize("visible", [{"devices": (2, 3)}, {}])
def test_deepspeeds_devices_are_told_by_an_option_alone(visible):
    params = LauncherParams(kind="deepspeed", processes=2, **visible)
    places = PLACES if visible else command.Places(**vars(PLACES) | {"visible": "2,3"})

    argv = command.argv(params, places)
    whole = command.environment(
        params, places, {"CUDA_VISIBLE_DEVICES": "2,3"}, "marker", []
    )

    assert "--include=localhost:2,3" in argv
    assert not [word for word in argv if word.startswith("--num_gpus")]
    assert "CUDA_VISIBLE_DEVICES" not in whole


def test_devices_of_several_machines():
    params = LauncherParams(
        kind="deepspeed", processes=2, nodes=2, hostfile="hosts", devices=(0, 5)
    )

    assert "--include=worker-1:0,5@worker-2:0,5" in command.argv(params, PLACES)


def test_too_few_visible_devices():
    params = LauncherParams(name="gpu8", kind="torchrun", processes=8)

    with pytest.raises(ParameterError, match=r"launcher=gpu8: needs 8 GPUs, but .*0,1"):
        command.visible_devices(params, "0,1")


def test_deepspeed_is_optional(monkeypatch):
    params = LauncherParams(name="mine", kind="torchrun", deepspeed="zero3.json")
    command.check_installed(params)
    monkeypatch.setitem(sys.modules, "deepspeed", None)
    with pytest.raises(ParameterError, match="launcher=mine: needs deepspeed, which"):
        command.check_installed(params)
    command.check_installed(LauncherParams(kind="torchrun"))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"kind": "slurm"},
            "'inline', 'accelerate', 'deepspeed', 'torchrun'",
        ),
        ({"kind": "torchrun", "process": 2}, "not permitted"),
        ({"kind": "torchrun", "processes": 2, "devices": [0]}, "1 devices for 2"),
        ({"kind": "torchrun", "hostfile": "h"}, "hostfile is DeepSpeed's"),
        ({"kind": "torchrun", "nodes": 2}, "need a hostfile or a prefix"),
        ({"kind": "accelerate", "nodes": 2, "prefix": ["x"]}, "choose torchrun"),
        ({"kind": "deepspeed", "nodes": 2, "prefix": ["x"]}, "needs a hostfile"),
    ],
)
def test_a_preset_that_does_not_fit_together(fields, said):
    with pytest.raises(ValidationError, match=said):
        LauncherParams(**fields)


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("gpu[03-05,07],cpu1", "gpu03"),
        ("node7", "node7"),
        ("a1,a2", "a1"),
        ("r[1-2]n,x", "r1n"),
        ("", ""),
    ],
)
def test_the_first_machine_of_a_slurm_list(nodes, first):
    assert command.first_host(nodes) == first


def test_where_the_ranks_meet():
    slurm = LauncherParams(kind="torchrun", nodes=2, prefix=("srun",))

    assert command.meeting_host(LauncherParams(), {}) == "127.0.0.1"
    assert command.meeting_host(slurm, {"SLURM_JOB_NODELIST": "n[2-3]"}) == "n2"
    assert command.meeting_host(slurm, {}) == socket.gethostname()


def test_a_free_port_can_be_bound():
    with socket.socket() as held:
        held.bind(("", port := command.free_port()))
        assert held.getsockname()[1] == port


def test_the_machines_of_a_hostfile():
    text = "worker-1 slots=8\n# worker-0 slots=8\n\nworker-2 slots=8  # new\n"

    assert command.hosts(text) == ("worker-1", "worker-2")


class TestDeepSpeedFiles:
    @pytest.fixture(params=sorted((ROOT / "conf" / "launch").glob("*.json")), ids=str)
    def file(self, request):
        return request.param

    def test_the_installed_deepspeed_reads_it(self, file, monkeypatch):
        monkeypatch.setenv("DS_ACCELERATOR", "cpu")
        from deepspeed.runtime.config import DeepSpeedConfig

        config = DeepSpeedConfig(resolved(json.loads(file.read_text("utf-8"))))

        assert config.zero_optimization_stage == int(file.stem[4])
        offloaded = config.zero_config.offload_optimizer is not None
        assert offloaded == ("offload" in file.stem)

    def test_transformers_fills_its_gaps(self, file, monkeypatch):
        monkeypatch.setenv("DS_ACCELERATOR", "cpu")
        from transformers import TrainingArguments
        from transformers.integrations.deepspeed import HfTrainerDeepSpeedConfig

        config = HfTrainerDeepSpeedConfig(str(file))
        arguments = TrainingArguments(per_device_train_batch_size=4)
        config.trainer_config_process(arguments)

        assert config.config["train_micro_batch_size_per_gpu"] == 4

    def test_whole_weights_are_saved(self, file):
        zero = json.loads(file.read_text("utf-8"))["zero_optimization"]

        gathers = zero.get("stage3_gather_16bit_weights_on_model_save", False)
        assert gathers == (zero["stage"] == 3)


def resolved(config):
    """What transformers puts in the place of "auto", for a small model."""
    values = {"gradient_clipping": 1.0, "enabled": False}
    filled = {}
    for name, value in config.items():
        if isinstance(value, dict):
            filled[name] = resolved(value)
        else:
            filled[name] = values.get(name, 1) if value == "auto" else value
    return filled


def test_ranks_are_told_of_the_project():
    assert environment({})[PROJECT_VARIABLE] == "/project"
