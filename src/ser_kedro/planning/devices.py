"""The devices that a run is planned for, and how training is spread over them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from ser_kedro.errors import ParameterError
from ser_kedro.launch.memory import gpu_memory, host_memory
from ser_kedro.launch.params import LauncherParams

Offload = Literal["none", "optimizer", "parameters"]

_UNITS = {"": 1, "MB": 10**6, "GB": 10**9, "MIB": 2**20, "GIB": 2**30}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")


@dataclass(frozen=True)
class Devices:
    """Equal devices that train one model.

    Attributes:
        count: Devices of all nodes together.
        memory_bytes: Memory of one device; ``None`` where it is not known.
        zero_stage: DeepSpeed's ZeRO stage; 0 is plain data parallelism without
            DeepSpeed, where weights stay in fp32 and bf16 comes by autocast.
        offload: What ZeRO keeps in the memory of the host: nothing, the optimiser, or
            the optimiser and (stage 3) the weights.
        bf16: The devices compute in bf16 (``precision: auto`` takes it then).
    """

    count: int
    memory_bytes: int | None
    zero_stage: int = 0
    offload: Offload = "none"
    bf16: bool = True


def parse_size(text: str) -> int:
    """Return the bytes that ``80GB``, ``24GiB`` or a plain number stand for.

    Raises:
        ParameterError: If it is no size.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None or found[2].upper() not in _UNITS or float(found[1]) == 0:
        raise ParameterError(
            f"--device-memory {text}: no size; write it as 80GB (10^9 bytes) or 80GiB"
        )
    return int(float(found[1]) * _UNITS[found[2].upper()])


def from_launcher(
    launcher: LauncherParams, deepspeed: dict[str, Any] | None
) -> Devices:
    """Return the devices that a launcher starts processes on.

    Args:
        launcher: The launcher.
        deepspeed: The DeepSpeed configuration that it names, read from its file.
    """
    if launcher.kind == "inline":
        return this_machine()
    count = launcher.processes * launcher.nodes
    zero = (deepspeed or {}).get("zero_optimization", {})
    offload: Offload = "none"
    if _device(zero, "offload_param") != "none":
        offload = "parameters"
    elif _device(zero, "offload_optimizer") != "none":
        offload = "optimizer"
    on_cpu = launcher.devices == ()
    memory = host_memory() // count if on_cpu else gpu_memory()
    return Devices(count, memory, int(zero.get("stage", 0)), offload, not on_cpu)


def _device(zero: dict[str, Any], name: str) -> str:
    return str((zero.get(name) or {}).get("device", "none"))


def this_machine() -> Devices:
    """Return the one device that the launcher ``inline`` uses."""
    gpu = gpu_memory()
    if gpu is None:
        return Devices(1, host_memory(), bf16=False)
    return Devices(1, gpu)
