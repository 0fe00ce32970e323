"""How a job is run: what a launcher preset says."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt
from pydantic import model_validator as validator

Kind = Literal["inline", "accelerate", "deepspeed", "torchrun", "lookup"]


class LauncherParams(BaseModel):
    """Processes, machines and devices of a job; no part of its fingerprint.

    Attributes:
        name: The preset, for messages.
        kind: What starts the ranks; ``inline`` is this process. ``lookup`` runs nothing
            and finds what has finished.
        processes: Ranks on each machine.
        nodes: Machines.
        hostfile: DeepSpeed's list of machines, relative to the project.
        host: The machine where ranks meet; by default the first of the Slurm
            allocation, else this one.
        port: The port where they meet; by default a free one of this machine.
        deepspeed: DeepSpeed's configuration, relative to the project. The job reads
            its path from ``SER_KEDRO_DEEPSPEED``, under any launcher.
        prefix: Words in front of the command, such as ``srun --nodes=2``.
        devices: Which GPUs of each machine; ``None`` for those that are visible,
            ``[]`` for none.
        timeout: Seconds after which the job is ended.
        threads: Threads of each rank.
        environment: Variables of the ranks, beyond those of this process.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = "inline"
    kind: Kind = "inline"
    processes: PositiveInt = 1
    nodes: PositiveInt = 1
    hostfile: str | None = None
    host: str | None = None
    port: Annotated[int, Field(gt=0, lt=65536)] | None = None
    deepspeed: str | None = None
    prefix: tuple[str, ...] = ()
    devices: tuple[int, ...] | None = None
    timeout: PositiveFloat | None = None
    threads: PositiveInt | None = None
    environment: dict[str, str] = {}

    @validator(mode="after")
    def _fits_together(self) -> Self:
        if self.kind in ("inline", "lookup"):
            return self
        if self.devices and len(self.devices) != self.processes:
            raise ValueError(
                f"{len(self.devices)} devices for {self.processes} processes"
            )
        if self.hostfile and self.kind != "deepspeed":
            raise ValueError("a hostfile is DeepSpeed's; others take a prefix")
        if self.nodes > 1 and not (self.hostfile or self.prefix):
            raise ValueError("several nodes need a hostfile or a prefix such as srun")
        if self.nodes > 1 and self.kind == "deepspeed" and not self.hostfile:
            raise ValueError("deepspeed needs a hostfile for several nodes")
        if self.nodes > 1 and self.kind == "accelerate":
            raise ValueError("accelerate runs on one node here; choose torchrun")
        return self


INLINE = LauncherParams()
LOOKUP = LauncherParams(name="lookup", kind="lookup")
