"""What is executed: the argument list and the environment of each launcher."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ser_kedro.errors import ParameterError
from ser_kedro.launch.params import LauncherParams
from ser_kedro.launch.rank import (
    DEEPSPEED_VARIABLE,
    LAUNCH_VARIABLE,
    NO_GPU_VARIABLE,
)

WORKER = "ser_kedro.launch.worker"
ACCELERATE_FILE = Path("conf") / "launch" / "accelerate.yml"

# Ninja compiles what DeepSpeed needs on the fly.
_DEEPSPEED_NEEDS = ("deepspeed", "ninja")

# What an outer launcher (torchrun, mpirun, srun, accelerate) tells its own ranks. A
# child that believed it would wait for ranks that never come. ``SLURM_JOB_*`` stays:
# an inner srun needs it.
_OUTER = re.compile(
    r"(LOCAL_|GROUP_|ROLE_|NODE_|CROSS_)?RANK|((LOCAL|GROUP|ROLE)_)?WORLD_SIZE"
    r"|ROLE_NAME|(CROSS|LOCAL)_SIZE|MASTER_(ADDR|PORT)|MPI_LOCAL(RANKID|NRANKS)"
    r"|SLURM_(PROCID|LOCALID|NODEID|GTIDS|TASK_PID|STEP_.*|STEPID)"
    r"|(OMPI|PMI|PMIX|MV2|TORCHELASTIC|ACCELERATE|FSDP).*"
    r"|SER_KEDRO_(LAUNCH|NO_GPU|DEEPSPEED)"
)


@dataclass(frozen=True)
class Places:
    """Where a launch happens.

    Attributes:
        project: The project's root.
        logs: Folder of this launch: its job, result, errors and logs.
        workspace: Where the job works.
        python: The interpreter.
        host: The machine where ranks meet.
        port: The port where they meet.
        hosts: Machines of the hostfile.
        visible: ``CUDA_VISIBLE_DEVICES`` of this process.
    """

    project: Path
    logs: Path
    workspace: Path
    python: str
    host: str
    port: int
    hosts: tuple[str, ...] = ()
    visible: str | None = None

    @property
    def job(self) -> Path:
        """The job, for the ranks to read."""
        return self.logs / "job.json"

    @property
    def result(self) -> Path:
        """What rank 0 writes in the end."""
        return self.logs / "result.json"

    @property
    def remote_environment(self) -> Path:
        """Variables for other machines, in the format of ``.deepspeed_env``."""
        return self.logs / "environment"


def check_installed(params: LauncherParams) -> None:
    """Refuse a launcher whose software is not here.

    Raises:
        ParameterError: If DeepSpeed, which is an optional dependency, is missing.
    """
    if params.kind != "deepspeed" and params.deepspeed is None:
        return
    missing = [name for name in _DEEPSPEED_NEEDS if find_spec(name) is None]
    if missing:
        raise ParameterError(
            f"launcher={params.name}: needs {' and '.join(missing)}, which this Python"
            " does not have; run DS_BUILD_OPS=0 pip install 'ser-kedro[deepspeed]'"
        )


def argv(params: LauncherParams, places: Places) -> list[str]:
    """Return the argument list that runs the job of ``places`` under ``params``."""
    launcher = {"accelerate": _accelerate, "deepspeed": _deepspeed}.get(
        params.kind, _torchrun
    )
    work = [WORKER, *map(str, (places.job, places.result, places.workspace))]
    return [*params.prefix, places.python, *launcher(params, places), *work]


def _torchrun(params: LauncherParams, places: Places) -> list[str]:
    # Under a prefix each machine starts the same command, so none can know which
    # one it is: they agree through a rendezvous, and one of them holds it.
    meet = (
        [f"--master-addr={places.host}", f"--master-port={places.port}"]
        if params.nodes == 1
        else [
            "--rdzv-backend=c10d",
            f"--rdzv-endpoint={places.host}:{places.port}",
            f"--rdzv-id={places.port}",
        ]
    )
    return [
        *("-m", "torch.distributed.run"),
        *(f"--nnodes={params.nodes}", f"--nproc-per-node={params.processes}"),
        *meet,
        "--module",
    ]


def _accelerate(params: LauncherParams, places: Places) -> list[str]:
    # Our own file, since accelerate would otherwise read the user's default one. Its
    # "multi_gpu" is its name for torchrun; on a CPU alone the same works over gloo.
    return [
        *("-m", "accelerate.commands.launch"),
        *("--config_file", str(places.project / ACCELERATE_FILE)),
        *(["--multi_gpu"] if params.processes > 1 else []),
        *("--num_processes", str(params.processes), "--num_machines", "1"),
        *("--main_process_ip", places.host),
        *("--main_process_port", str(places.port)),
        "--module",
    ]


def _deepspeed(params: LauncherParams, places: Places) -> list[str]:
    return [
        *("-m", "deepspeed.launcher.runner", "--quiet"),
        *_deepspeed_devices(params, places),
        *([f"--master_addr={params.host}"] if params.host else []),
        *(f"--master_port={places.port}", "--module"),
    ]


def _deepspeed_devices(params: LauncherParams, places: Places) -> list[str]:
    if params.hostfile:
        hostfile = f"--hostfile={places.project / params.hostfile}"
        if params.devices:
            slots = ",".join(map(str, params.devices))
            hosts = places.hosts[: params.nodes]
            return [hostfile, "--include=" + "@".join(f"{h}:{slots}" for h in hosts)]
        counts = [f"--num_nodes={params.nodes}", f"--num_gpus={params.processes}"]
        return [hostfile, *counts]
    # An empty name: DeepSpeed would otherwise look for /job/hostfile.
    if devices := visible_devices(params, places.visible):
        # Given as an option of its own, for DeepSpeed ignores the variable (and the
        # user's choice with it) as soon as it is told a number of GPUs.
        return ["--hostfile=", f"--include=localhost:{devices}"]
    return ["--hostfile=", f"--num_gpus={params.processes}"]


def visible_devices(params: LauncherParams, inherited: str | None) -> str | None:
    """Return the GPUs of this machine that the ranks may use; ``None`` for all."""
    if params.devices is not None:
        return ",".join(map(str, params.devices))
    if params.hostfile:
        return None  # this machine's choice says nothing of the others
    if not inherited:
        return inherited
    names = inherited.split(",")
    if len(names) < params.processes:
        raise ParameterError(
            f"launcher={params.name}: needs {params.processes} GPUs, but"
            f" CUDA_VISIBLE_DEVICES={inherited}; choose another launcher or set it anew"
        )
    return ",".join(names[: params.processes])


def environment(
    params: LauncherParams,
    places: Places,
    inherited: Mapping[str, str],
    marker: str,
    paths: Iterable[Path],
) -> dict[str, str]:
    """Return the whole environment of the launcher and of its local ranks.

    Args:
        params: The launcher.
        places: Where it runs.
        inherited: The environment of this process.
        marker: Identity of the launch.
        paths: Folders from which the ranks must import.
    """
    kept = {k: v for k, v in inherited.items() if not _OUTER.fullmatch(k)}
    added = added_environment(params, places, marker)
    search = [*map(str, paths), *filter(None, [kept.get("PYTHONPATH")])]
    whole = {**kept, **added, "PYTHONPATH": ":".join(search)}
    devices = visible_devices(params, places.visible)
    whole.pop("CUDA_VISIBLE_DEVICES", None)
    # One mechanism at a time: DeepSpeed's --include sets the variable for its ranks.
    if devices is not None and not (params.kind == "deepspeed" and devices):
        whole["CUDA_VISIBLE_DEVICES"] = devices
    if params.kind == "deepspeed" and params.nodes > 1:
        whole["DS_ENV_FILE"] = str(places.remote_environment)
    return whole


def added_environment(
    params: LauncherParams, places: Places, marker: str
) -> dict[str, str]:
    """Return the variables that every rank needs, on other machines too."""
    added = {
        LAUNCH_VARIABLE: marker,
        "SER_KEDRO_PROJECT": str(places.project),
        "TOKENIZERS_PARALLELISM": "false",
    }
    if params.threads is not None:
        added["OMP_NUM_THREADS"] = str(params.threads)
    if params.devices == ():
        added[NO_GPU_VARIABLE] = "1"
    if params.deepspeed is not None:
        added[DEEPSPEED_VARIABLE] = str(places.project / params.deepspeed)
    return {**added, **params.environment}


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as held:
        held.bind(("", 0))
        return int(held.getsockname()[1])


def meeting_host(params: LauncherParams, inherited: Mapping[str, str]) -> str:
    """Return the machine where the ranks meet."""
    if params.host:
        return params.host
    if params.nodes == 1:
        return "127.0.0.1"
    return first_host(inherited.get("SLURM_JOB_NODELIST", "")) or socket.gethostname()


def first_host(nodes: str) -> str:
    """Return the first machine of a Slurm node list, such as ``gpu[03-05,07],cpu1``."""
    found = re.match(r"([^,\[]+)(?:\[(\w+)[^\]]*\])?([^,]*)", nodes)
    return "".join(filter(None, found.groups())) if found else ""


def hosts(hostfile: str) -> tuple[str, ...]:
    """Return the machines that a hostfile's text names."""
    lines = (line.split("#")[0].split() for line in hostfile.splitlines())
    return tuple(words[0] for words in lines if words)
