"""What went wrong in a launch, and what to do about it."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ser_kedro import errors
from ser_kedro.errors import LaunchError, SerKedroError
from ser_kedro.launch.params import LauncherParams
from ser_kedro.launch.tail import LAUNCHER_LOG, last_lines
from ser_kedro.store.json_io import read_json
from ser_kedro.store.references import OUTPUTS, StoredRef

# The first that is found counts: what is likely to be a consequence comes last.
_ADVICE = (
    (
        r"CUDA out of memory|OutOfMemoryError|CUBLAS_STATUS_ALLOC_FAILED"
        r"|can't allocate memory|Cannot allocate memory|MemoryError",
        "out of memory: lower micro_batch_size or max_length, set"
        " gradient_checkpointing, or choose a launcher with ZeRO 3 or offload",
    ),
    (
        r"MissingCUDAException|CUDA_HOME",
        "DeepSpeed compiles for the GPU and finds no CUDA: set CUDA_HOME to the"
        " toolkit's folder, or choose a launcher without DeepSpeed",
    ),
    (
        r"EADDRINUSE|[Aa]ddress already in use",
        "the port is taken: run again, or set another port in the launcher's preset",
    ),
    (
        r"not reachable via ssh|Could not resolve host|Name or service not known"
        r"|No route to host|ssh: connect to host|Host key verification failed"
        r"|gai error|Connection timed out|RendezvousConnectionError",
        "a machine cannot be reached: check its name in the hostfile and that ssh to"
        " it asks for no password",
    ),
    (
        r"NCCL.*(timeout|timed out|Timeout)|Watchdog caught collective operation"
        r"|NCCL (WARN|error)|ncclSystemError|ncclUnhandledCudaError",
        "the GPUs lost each other (NCCL): look for a rank that stopped before; set"
        " NCCL_DEBUG=INFO and, with several networks, NCCL_SOCKET_IFNAME",
    ),
    (
        r"Ninja is required|ninja: (command )?not found|[Nn]o such file.*'ninja'",
        "ninja is missing: pip install ninja",
    ),
    (
        r"No such file.*numactl|numactl: (command )?not found",
        "numactl is missing: install it (apt-get install numactl)",
    ),
    (
        r"launcher 'pdsh' not installed|pdsh: (command )?not found",
        "pdsh is missing: install it on this machine (apt-get install pdsh)",
    ),
    (r"srun: (command )?not found", "srun is missing: run this where Slurm is"),
    (
        r"No module named '?deepspeed'?|DeepSpeed is not (available|installed)",
        "DeepSpeed is missing: DS_BUILD_OPS=0 pip install 'ser-kedro[deepspeed]'",
    ),
    (
        r"no GPU resources available|CUDA driver version is insufficient"
        r"|Found no NVIDIA driver|invalid device ordinal",
        "no such GPU here: choose a launcher that fits this machine",
    ),
)
_KILLED = (
    "killed, most often because the machine ran out of memory (see dmesg): use fewer"
    " processes or a smaller batch"
)
_LOST = re.compile(
    r"Connection (closed|reset) by|Socket closed|Broken pipe|recvValueWithTimeout"
    r"|remote process has|failed to recv|store->"
)


@dataclass(frozen=True)
class Ending:
    """How a launch ended, as far as it left traces.

    Attributes:
        rank: Which rank failed first, if any is known.
        code: Its exit code, or the launcher's; negative for a signal.
        text: What it said last.
        error: What it wrote of its own exception.
    """

    rank: int | None
    code: int
    text: str
    error: dict[str, Any] | None = None


def advice(text: str, code: int = 1) -> str | None:
    """Return what to do about an output and an exit code, if they are known."""
    for pattern, words in _ADVICE:
        if re.search(pattern, text):
            return words
    return _KILLED if code in (-signal.SIGKILL, 128 + signal.SIGKILL) else None


def reconstruct(logs: Path, code: int) -> Ending:
    """Find out from the files of a launch which rank failed first, and of what."""
    launcher = "\n".join(last_lines(logs / LAUNCHER_LOG, 200))
    reported = _reported(launcher)
    for rank, exit_code in reported:
        if exit_code < 0 and exit_code != -signal.SIGTERM:  # TERM is the launcher's own
            return Ending(rank, exit_code, _said(logs, rank))
    found = [read_json(path) for path in logs.glob("error_*.json")]
    own = [error for error in found if not _LOST.search(error["message"])]
    if own or (found and not _silent(logs)):
        first = min(own or found, key=lambda error: error["time"])
        return Ending(first["rank"], 1, _said(logs, first["rank"]), first)
    if found:  # the others lost one that had no time to say why
        rank = _silent(logs)[0]
        return Ending(rank, -signal.SIGKILL, _said(logs, rank))
    # The launcher sends TERM to the others once it has seen one fail.
    if reported := sorted(reported, key=lambda pair: pair[1] == -signal.SIGTERM):
        rank, exit_code = reported[0]
        return Ending(rank, exit_code, _said(logs, rank) or launcher)
    return Ending(None, code, launcher)


def _reported(launcher: str) -> list[tuple[int, int]]:
    # torchrun (and accelerate, which calls it) writes a table at the end; DeepSpeed
    # the command of the rank with its exit code, modulo 256 where it passed through.
    torchrun = re.findall(r"rank\s*: (\d+) .*\n\s*exitcode\s*: (-?\d+)", launcher)
    deepspeed = re.findall(
        r"--local_rank=(\d+).* exits with return code = (-?\d+)", launcher
    )
    return [(int(rank), int(code)) for rank, code in torchrun + deepspeed]


def _silent(logs: Path) -> list[int]:
    ranks = [int(path.stem.partition("_")[2]) for path in logs.glob("rank_*.log")]
    return sorted(r for r in ranks if not (logs / f"error_{r}.json").exists())


def _said(logs: Path, rank: int) -> str:
    return "\n".join(last_lines(logs / f"rank_{rank}.log"))


def failed(
    what: str, params: LauncherParams, command: list[str], logs: Path, code: int
) -> SerKedroError:
    """Return the one error that stands for a failed launch."""
    ending = reconstruct(logs, code)
    if ending.error and ending.error["user"]:
        kind = getattr(errors, ending.error["type"], LaunchError)
        return kind(ending.error["message"])
    launcher = "\n".join(last_lines(logs / LAUNCHER_LOG, 200))
    who = "the launcher" if ending.rank is None else f"rank {ending.rank}"
    message = (ending.error or {}).get("message", "")
    said = f"{ending.error['type']}: {message}" if ending.error else ""
    said = said or _last(ending.text)
    # What was said last first: further up there may be warnings without consequence.
    places = (said, ending.text, "" if ending.error else launcher)
    known = (advice(text) for text in places)
    help_ = next(filter(None, known), None) or advice("", ending.code)
    help_ = help_ or "see the log"
    log = logs / (LAUNCHER_LOG if ending.rank is None else f"rank_{ending.rank}.log")
    return LaunchError(
        f"{what}: {who} failed under launcher={params.name}"
        f" ({_code(ending.code)}){': ' if said else ''}{_short(said)}; {help_};"
        f" log: {log}",
        command=command,
        exit_code=ending.code,
        rank=ending.rank,
        lines=ending.text.splitlines(),
    )


def _code(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    return f"exit code {code}, {signal.Signals(-code).name}"


def _last(text: str) -> str:
    return text.splitlines()[-1] if text else ""


def _short(text: str, most: int = 160) -> str:
    words = " ".join(text.split())
    return words if len(words) <= most else words[: most - 1] + "…"


def read_result(what: str, path: Path) -> dict[str, StoredRef]:
    """Return the outputs that rank 0 wrote.

    Raises:
        LaunchError: If there are none, or not whole ones.
    """
    log = path.with_name("rank_0.log")
    if not path.is_file():
        raise LaunchError(
            f"{what}: the launcher ended well, but rank 0 left no result at {path};"
            f" with several machines the store must be on a disk they share; log: {log}"
        )
    try:
        return OUTPUTS.validate_python(read_json(path)["outputs"])
    except (ValueError, KeyError, TypeError) as error:
        raise LaunchError(
            f"{what}: the result at {path} is incomplete; run the same command again,"
            f" and check the disk if it comes back; log: {log}"
        ) from error
