"""TRL's reward trainer with our losses, weights, soft labels and resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
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
from trl.trainer.reward_trainer import DataCollatorForPreference

from ser_kedro.launch.json import read_json
from ser_kedro.reward.losses import pair_losses, weighted_mean
from ser_kedro.reward.params import TrainingParams

CHECKPOINTS = "trainer"


class PairCollator(DataCollatorForPreference):
    """TRL's padded pairs, with weights and soft labels where rows have them."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """Return ``input_ids`` and ``attention_mask`` of shape ``(2 n, length)``.

        The first ``n`` rows are the chosen ones; ``weight`` and ``soft_label`` have
        the shape ``(n,)``.
        """
        batch = super().torch_call(
            [
                {
                    "chosen_ids": row["prompt_ids"] + row["chosen_ids"],
                    "rejected_ids": row["prompt_ids"] + row["rejected_ids"],
                }
                for row in examples
            ]
        )
        for name in ("weight", "soft_label"):
            batch[name] = torch.tensor([float(row[name]) for row in examples])
        return batch


class SerRewardTrainer(RewardTrainer):  # type: ignore[misc]
    """``RewardTrainer`` for encoded pairs with weights and soft labels.

    Rows have ``prompt_ids``, ``chosen_ids``, ``rejected_ids``, ``weight`` and
    ``soft_label``.
    """

    def __init__(
        self, *, loss: str = "logistic", hinge_margin: float = 1.0, **kwargs: Any
    ) -> None:
        """Take what ``RewardTrainer`` takes, and the loss."""
        super().__init__(**kwargs)
        self.pair_loss = loss
        self.hinge_margin = hinge_margin

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = [
            "prompt_ids",
            "chosen_ids",
            "rejected_ids",
            "weight",
            "soft_label",
        ]

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Return the mean loss of the batch's pairs, each by its weight."""
        weights, soft_labels = inputs.pop("weight"), inputs.pop("soft_label")
        outputs = model(**inputs, use_cache=False)
        chosen, rejected = torch.chunk(outputs.logits.squeeze(-1).float(), chunks=2)
        losses = pair_losses(
            chosen - rejected,
            kind=self.pair_loss,  # type: ignore[arg-type]
            hinge_margin=self.hinge_margin,
            soft_labels=soft_labels,
        )
        loss = weighted_mean(losses, weights)
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


def training_arguments(
    params: TrainingParams, workspace: Path, seed: int
) -> dict[str, Any]:
    """Return the arguments that TRL's SFT and reward configurations share."""
    gpu = torch.cuda.is_available()
    auto = gpu and torch.cuda.is_bf16_supported()
    micro = params.micro_batch_size or params.batch_size
    return {
        "output_dir": str(workspace / CHECKPOINTS),
        "learning_rate": params.learning_rate,
        "num_train_epochs": params.epochs,
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": params.batch_size // micro,
        "lr_scheduler_type": params.scheduler,
        "warmup_steps": params.warmup_steps,
        "weight_decay": params.weight_decay,
        "bf16": params.precision == "bf16" or (params.precision == "auto" and auto),
        "use_cpu": not gpu,
        "gradient_checkpointing": params.gradient_checkpointing,
        "save_strategy": "steps",
        "save_steps": params.save_steps,
        "save_total_limit": 2,
        "logging_steps": 10,
        "logging_first_step": True,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": gpu,
        "seed": seed,
        "max_length": None,
    }


def last_checkpoint(workspace: Path) -> str | None:
    """Return the newest complete checkpoint of an interrupted training, if any.

    The trainer writes its state last; a folder without one was cut off in mid-save.
    """
    complete = [
        path.parent
        for path in (workspace / CHECKPOINTS).glob("checkpoint-*/trainer_state.json")
        if _is_whole(path)
    ]
    newest = max(complete, key=lambda path: int(path.name.split("-")[1]), default=None)
    return str(newest) if newest else None


def _is_whole(state: Path) -> bool:
    try:
        read_json(state)
    except ValueError:
        return False
    return True


def train(trainer: Any, workspace: Path, title: str) -> dict[str, float]:
    """Train, or go on from the last checkpoint, and return steps and losses."""
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    trainer.add_callback(Progress(title))
    trainer.train(resume_from_checkpoint=last_checkpoint(workspace))
    losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
    return {
        "steps": trainer.state.global_step,
        "first_loss": float(losses[0]) if losses else float("nan"),
        "last_loss": float(losses[-1]) if losses else float("nan"),
    }
