"""Jobs that behave in ways a launcher must cope with; ranks import them by name."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import ClassVar

from ser_kedro.errors import ModelError
from ser_kedro.launch import rank
from ser_kedro.store.job import NOT_MINE, Job
from ser_kedro.store.references import TableRef
from ser_kedro.store.tables import write_document

FOREVER = 600


class Toy(Job):
    """All ranks say who they are, and rank 0 writes a file."""

    stage: ClassVar[str] = "toy"
    distributed: ClassVar[bool] = True

    number: int = 1

    def act(self, workspace):
        pass

    def work(self, workspace):
        print(f"pid {os.getpid()} is rank {rank.rank()} of {rank.world_size()}")
        self.act(workspace)
        (workspace / f"rank_{rank.rank()}").write_text(str(os.getpid()))
        return {"x": TableRef(path="rank_0", fingerprint="d", rows=self.number)}


class AllReduce(Toy):
    """Adds the ranks' shares over gloo; each rank has rank + number."""

    def work(self, workspace):
        import torch
        from torch import distributed

        if rank.world_size() > 1:
            distributed.init_process_group("gloo")
        share = torch.tensor([rank.rank() + self.number])
        if rank.world_size() > 1:
            distributed.all_reduce(share)
        rank.barrier()
        seen = {
            name: os.environ.get(name)
            for name in (
                "SER_KEDRO_DEEPSPEED",
                "OMP_NUM_THREADS",
                "CUDA_VISIBLE_DEVICES",
                "OMPI_COMM_WORLD_RANK",
            )
        }
        found = {"sum": int(share), "world": rank.world_size(), **seen}
        if not rank.is_main():
            return NOT_MINE
        return {"x": write_document(workspace, "sum", found)}


class Exit1(Toy):
    def act(self, workspace):
        if rank.rank() == 1:
            os._exit(1)
        time.sleep(FOREVER)


class Raise(Toy):
    def act(self, workspace):
        if rank.rank() == 1:
            raise RuntimeError("the third law is broken")
        time.sleep(FOREVER)


class UserMistake(Toy):
    def act(self, workspace):
        raise ModelError("model=x: has no head; give another one")


class OutOfMemory(Toy):
    def act(self, workspace):
        raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")


class FullDisk(Toy):
    def act(self, workspace):
        with open("/dev/full", "w") as file:
            file.write("x")


class Hang(Toy):
    """Hangs; deaf, it does not listen to TERM either."""

    deaf: bool = False

    def act(self, workspace):
        if self.deaf:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        (workspace / f"hangs_{rank.rank()}").write_text(str(os.getpid()))
        time.sleep(FOREVER)


class Killed(Toy):
    def act(self, workspace):
        if rank.rank() == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(FOREVER)


class NoResult(Toy):
    """Leaves in the middle without a word, and with a good exit code."""

    def act(self, workspace):
        os._exit(0)


class HalfResult(Toy):
    def act(self, workspace):
        Path(sys.argv[-2]).write_text('{"outputs": {"x"')
        os._exit(0)
