"""The same batches in the same order: our loss against TRL's, step by step."""

from __future__ import annotations

from typing import Any

from benchmarks import pairs, training
from benchmarks.child import arguments, hand_back
from benchmarks.common import Result, limited, run_child

STEPS = 20


def record_losses(trainer: Any) -> list[float]:
    """Train, and return the loss of each step as the trainer computes it."""
    losses: list[float] = []
    step = trainer.training_step

    def recorded(*args: Any, **kwargs: Any) -> Any:
        loss = step(*args, **kwargs)
        losses.append(float(loss))
        return loss

    trainer.training_step = recorded
    trainer.train()
    return losses


def measure() -> Result:
    """Compare two runs of ``STEPS`` steps."""
    mine, trls = (
        run_child("benchmarks.losses", name)["losses"] for name in ("ours", "trl")
    )
    gaps = [abs(a - b) for a, b in zip(mine, trls, strict=True)]
    row = limited(
        "loss on the same batches",
        "TRL RewardTrainer, largest difference of a step",
        "nats",
        [max(gaps)],
        "<= 0.0001",
    )
    return Result(
        [row],
        f"{STEPS} optimiser steps of our own order, which TRL's trainer reads"
        " sequentially; packed rows in micro-batches on our side, plain rows at once"
        f" on theirs. Loss of the first step {mine[0]:.6f} and {trls[0]:.6f}, of the"
        f" last {mine[-1]:.6f} and {trls[-1]:.6f}; differences from {min(gaps):.1e} to"
        f" {max(gaps):.1e}.",
    )


def main() -> None:
    """Train for some steps."""
    given = arguments()
    model = pairs.new_model(given.seed)
    mine = training.ours(model, given.seed, max_steps=STEPS)
    if given.contender == "ours":
        trainer = mine
    else:
        order = mine.steps.steps[:STEPS].reshape(-1)
        trainer = training.theirs(
            pairs.new_model(given.seed),
            given.seed,
            rows=pairs.load("train_whole").select(order),
            max_steps=STEPS,
            train_sampling_strategy="sequential",
        )
    hand_back({"losses": record_losses(trainer)})


if __name__ == "__main__":
    main()
