"""What a run of PPO writes while it runs: checkpoints, the best policy, mishaps."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ser_kedro.store.json_io import read_json, write_json

WEIGHTS = "trainable.safetensors"
_OPTIMIZER = "optimizer.pt"
_PROGRESS = "progress.json"
_KEPT = 2


@dataclass
class HeldOut:
    """A policy on the held-out prompts.

    Attributes:
        step: Rollouts that it was trained on.
        reward: Mean of what PPO maximises, without the KL penalty.
        gold: Mean gold reward, where there is one.
        kl: Nats a sequence to the reference.
        texts: Its answers.
        rewards: Their raw rewards.
    """

    step: int
    reward: float
    gold: float | None
    kl: float
    texts: list[str]
    rewards: list[float]


@dataclass
class Progress:
    """Where a run is, but for weights, optimiser and random generators.

    Attributes:
        step: Rollouts done; the position in the prompts follows from it.
        kl_coefficient: Of the next rollout.
        rewards: Count, mean and sum of squared deviations of all raw rewards so far.
        history: A row a step.
        before: The first policy on the held-out prompts; ``None`` without any.
        best: The one with the highest reward within the bound on the KL.
        last: The latest one.
    """

    kl_coefficient: float
    step: int = 0
    rewards: tuple[float, float, float] = (0.0, 0.0, 0.0)
    history: list[dict[str, Any]] = field(default_factory=list)
    before: HeldOut | None = None
    best: HeldOut | None = None
    last: HeldOut | None = None

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what ``write_json`` wrote of ``asdict``."""
        values = read_json(path)
        for name in ("before", "best", "last"):
            values[name] = values[name] and HeldOut(**values[name])
        return cls(**{**values, "rewards": tuple(values["rewards"])})


@dataclass(frozen=True)
class Folder:
    """The folder of a run: checkpoints to go on from, and weights to keep.

    Attributes:
        path: The folder.
        rank: Of this process; the first writes what all share.
    """

    path: Path
    rank: int

    def best(self, step: int) -> Path:
        """Return the file with the weights that were the best at ``step``."""
        return self.path / f"best-{step}.safetensors"

    def keep_best(self, step: int, weights: Mapping[str, Tensor]) -> None:
        """Write the weights of the best policy so far."""
        if self.rank == 0:
            self.path.mkdir(parents=True, exist_ok=True)
            save_weights(self.best(step), weights)

    def save(
        self, progress: Progress, weights: Mapping[str, Tensor], optimizer: Any
    ) -> None:
        """Write a checkpoint; it is there whole, or not at all."""
        staging = self.path / "checkpoint.partial"
        if self.rank == 0:
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir(parents=True)
        _wait()
        torch.save(_random_states(), staging / f"random-{self.rank}.pt")
        if self.rank == 0:
            save_weights(staging / WEIGHTS, weights)
            torch.save(optimizer.state_dict(), staging / _OPTIMIZER)
            write_json(staging / _PROGRESS, asdict(progress))
        _wait()
        if self.rank == 0:
            place = self.path / f"checkpoint-{progress.step}"
            shutil.rmtree(place, ignore_errors=True)
            os.replace(staging, place)
            self._tidy(progress)

    def _tidy(self, progress: Progress) -> None:
        for old in self._checkpoints()[:-_KEPT]:
            shutil.rmtree(old)
        kept = progress.best and self.best(progress.best.step)
        for file in self.path.glob("best-*.safetensors"):
            if file != kept:
                file.unlink()

    def _checkpoints(self) -> list[Path]:
        whole = self.path.glob("checkpoint-*")
        return sorted(whole, key=lambda path: int(path.name.split("-")[1]))

    @property
    def latest(self) -> Path | None:
        """The newest checkpoint."""
        return (self._checkpoints() or [None])[-1]  # type: ignore[list-item]

    def load(self, optimizer: Any) -> tuple[Progress, dict[str, Tensor]] | None:
        """Go on from the newest checkpoint: restore optimiser and generators.

        Returns:
            Progress and weights, or ``None`` if there is no checkpoint.
        """
        if (place := self.latest) is None:
            return None
        optimizer.load_state_dict(torch.load(place / _OPTIMIZER, weights_only=True))
        file = place / f"random-{self.rank}.pt"
        # A rank that was not there before samples as it would from the start.
        if file.is_file():
            states = torch.load(file, weights_only=True)
            torch.set_rng_state(states["cpu"])
            if "cuda" in states:
                torch.cuda.set_rng_state(states["cuda"])
        return Progress.read(place / _PROGRESS), load_file(place / WEIGHTS)

    def save_mishap(
        self, step: int, reason: str, rows: Sequence[Mapping[str, Any]]
    ) -> Path:
        """Write the texts at which a run had to stop, and return the file."""
        path = self.path / f"stopped-at-step-{step}-rank-{self.rank}.json"
        write_json(path, {"step": step, "reason": reason, "rows": list(rows)})
        return path


def save_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Write tensors to a safetensors file; it is there whole, or not at all."""
    partial = path.with_name(path.name + ".partial")
    save_file({n: w.detach().cpu().contiguous() for n, w in weights.items()}, partial)
    os.replace(partial, path)


def _random_states() -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _wait() -> None:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
