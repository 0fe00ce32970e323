"""TRL's reward trainer with our losses, weights, soft labels and resume."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from operator import itemgetter
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers import (
    PrinterCallback,
    ProgressCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from trl import RewardTrainer

from ser_kedro.training.batches import PairSteps, Share
from ser_kedro.training.losses import pair_losses
from ser_kedro.training.resume import resumable


class SerRewardTrainer(RewardTrainer):  # type: ignore[misc]
    """``RewardTrainer`` over planned steps of pairs, with weights and soft labels.

    What it reads is a ``PairSteps`` of its own share, not a data set of rows: a step's
    micro-batches are its gradient accumulation, and each pair counts the same in the
    step, whichever micro-batch or process it is in.
    """

    def __init__(
        self,
        *,
        steps: Callable[[Share], PairSteps],
        loss: str = "logistic",
        hinge_margin: float = 1.0,
        **kwargs: Any,
    ) -> None:
        """Take what ``RewardTrainer`` takes, the steps of a process, and the loss."""
        super().__init__(**kwargs)
        share = Share(self.accelerator.process_index, self.accelerator.num_processes)
        self.steps = steps(share)
        self.pair_loss = loss
        self.hinge_margin = hinge_margin

    def get_train_dataloader(self) -> DataLoader:
        """Return the steps in their order, which the plan has shuffled already."""
        return DataLoader(self.steps, batch_size=1, collate_fn=itemgetter(0))

    def training_step(
        self, model: Any, inputs: list[dict[str, Any]], num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Add up the gradients of a step's micro-batches; return the step's loss."""
        model.train()
        total = torch.zeros((), device=self.args.device)
        for number, micro_batch in enumerate(inputs, start=1):
            last = number == len(inputs)
            # Processes meet once a step: at the backward pass of the last micro-batch.
            self.accelerator.sync_gradients = last
            alone = nullcontext() if last else self.accelerator.no_sync(model)
            with alone:
                with self.compute_loss_context_manager():
                    loss = self.compute_loss(model, self._prepare_inputs(micro_batch))
                self.accelerator.backward(loss)
            total += loss.detach()
        return total

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Return what the micro-batch's pairs add to the mean loss of the step."""
        inputs = dict(inputs)
        weights, soft_labels = inputs.pop("weight"), inputs.pop("soft_label")
        share = inputs.pop("share")
        outputs = model(**inputs, use_cache=False)
        rewards = outputs.logits.float().view(-1, 2)
        losses = pair_losses(
            rewards[:, 0] - rewards[:, 1],
            kind=self.pair_loss,  # type: ignore[arg-type]
            hinge_margin=self.hinge_margin,
            soft_labels=soft_labels,
        )
        loss = (losses * weights).sum() * share
        return (loss, outputs) if return_outputs else loss


class Progress(TrainerCallback):
    """One progress bar with the loss, on a terminal only."""

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
        """Show the loss."""
        if logs and "loss" in logs:
            self.bar.set_postfix(loss=f"{float(logs['loss']):.3f}")

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Close the bar."""
        self.bar.close()


def train(trainer: Any, workspace: Path, title: str) -> dict[str, float]:
    """Train, or go on from the last checkpoint, and return steps and losses."""
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    trainer.add_callback(Progress(title))
    trainer.train(resume_from_checkpoint=resumable(trainer, workspace))
    losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
    return {
        "steps": trainer.state.global_step,
        "first_loss": float(losses[0]) if losses else float("nan"),
        "last_loss": float(losses[-1]) if losses else float("nan"),
    }
