"""Run a trainer to its end, with a progress bar, and resume it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tqdm import tqdm
from transformers import (
    PrinterCallback,
    ProgressCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from ser_kedro.training.losses import check_finite
from ser_kedro.training.resume import resumable


class Progress(TrainerCallback):
    """Watch the loss; show it in a progress bar, on a terminal only."""

    def __init__(self, title: str) -> None:
        """Name the bar."""
        self.title = title
        self.bar: Any = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any
    ) -> None:
        """Open the bar, where a resumed run left it."""
        self.bar = tqdm(
            total=state.max_steps,
            initial=state.global_step,
            desc=self.title,
            unit="step",
            disable=None,
        )

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Move on by one step."""
        self.bar.update()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Show the loss, and end a training that has diverged."""
        if logs and "loss" in logs:
            loss = check_finite(float(logs["loss"]), self.title, state.global_step)
            self.bar.set_postfix(loss=f"{loss:.3f}")

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Close the bar."""
        self.bar.close()


def train(trainer: Any, workspace: Path, title: str) -> dict[str, float]:
    """Train, or go on from the last checkpoint, and return steps and losses.

    Raises:
        ModelError: If the loss became infinite or NaN.
    """
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    trainer.add_callback(Progress(title))
    done = trainer.train(resume_from_checkpoint=resumable(trainer, workspace))
    # The mean of all steps: the last ones may not have been logged.
    check_finite(done.training_loss, title, trainer.state.global_step)
    losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
    return {
        "steps": trainer.state.global_step,
        "first_loss": float(losses[0]) if losses else float("nan"),
        "last_loss": float(losses[-1]) if losses else float("nan"),
    }
