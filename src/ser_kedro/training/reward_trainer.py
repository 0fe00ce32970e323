"""TRL's reward trainer with our losses, weights, soft labels and resume."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import nullcontext
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from trl import RewardTrainer

from ser_kedro.errors import ModelError
from ser_kedro.models.heap import keep_freed_memory
from ser_kedro.models.memory_use import out_of_memory
from ser_kedro.training.batches import SAID, PairSteps, Shard
from ser_kedro.training.language_loss import LanguageLoss
from ser_kedro.training.losses import pair_losses
from ser_kedro.training.micro_batches import tokens_that_fit

logger = logging.getLogger(__name__)


class SerRewardTrainer(RewardTrainer):  # type: ignore[misc]
    """``RewardTrainer`` over planned steps of pairs, with weights and soft labels.

    What it reads is a ``PairSteps`` of its own shard, not a data set of rows: a step's
    micro-batches are its gradient accumulation, and each pair counts the same in the
    step, whichever micro-batch or process it is in.
    """

    def __init__(
        self,
        *,
        steps: Callable[[Shard], PairSteps],
        loss: str = "logistic",
        hinge_margin: float = 1.0,
        language: LanguageLoss | None = None,
        **kwargs: Any,
    ) -> None:
        """Take what ``RewardTrainer`` takes, the steps of a process, and the losses."""
        keep_freed_memory()
        super().__init__(**kwargs)
        shard = Shard(self.accelerator.process_index, self.accelerator.num_processes)
        self.steps = steps(shard)
        self.pair_loss = loss
        self.hinge_margin = hinge_margin
        self.language = language

    def get_train_dataloader(self) -> DataLoader:
        """Return the steps in their order, which the plan has shuffled already."""
        return DataLoader(self.steps, batch_size=1, collate_fn=itemgetter(0))

    def fit_memory(self) -> None:
        """Cut steps into passes of as many tokens as the memory holds.

        Before the training; a pair of middle length is read to see what it takes.
        """
        steps = self.steps
        lengths = steps.lengths(steps.packing)
        pair = int(np.argsort(lengths)[len(lengths) // 2])

        def loss(copies: int) -> torch.Tensor:
            batches = steps.batches(np.full(copies, pair), steps.packing)
            with self.autocast():
                return sum(
                    self.compute_loss(self.model, self._prepare_inputs(batch))
                    for batch in batches
                )

        tokens = tokens_that_fit(self.model, loss, int(lengths[pair]))
        steps.max_tokens_per_microbatch = tokens

    def autocast(self) -> Any:
        """Return the precision of the training, for a model that is not wrapped yet."""
        half = self.args.bf16
        return torch.autocast(self.args.device.type, torch.bfloat16, enabled=half)

    def training_step(
        self, model: Any, inputs: list[dict[str, Any]], num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Add up the gradients of a step's micro-batches; return the step's loss.

        Where the memory does not hold a pass, the step starts anew with passes of half
        the tokens, and so do all that follow.

        Raises:
            ModelError: If the memory does not hold a single pair, or one of several
                processes runs out of it: the others could not follow.
        """
        while True:
            try:
                return self._step(model, inputs)
            except Exception as error:
                if not out_of_memory(error):
                    raise
                self._halve(inputs, error)
            # Outside of the handler, whose traceback keeps the pass alive.
            self.model.zero_grad(set_to_none=True)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            inputs = self.steps[self.state.global_step]

    def _halve(self, inputs: list[dict[str, Any]], error: Exception) -> None:
        alone = all(len(batch["weight"]) == 1 for batch in inputs)
        if alone or self.accelerator.num_processes > 1:
            raise ModelError(
                "reward training: out of memory; lower"
                " reward.max_tokens_per_microbatch or reward.max_length, set"
                " reward.gradient_checkpointing, or train adapters (reward.lora)"
            ) from error
        size = max(batch["input_ids"].numel() for batch in inputs)
        tokens = min(size, self.steps.max_tokens_per_microbatch) // 2
        self.steps.max_tokens_per_microbatch = tokens
        logger.warning("Out of memory: going on with passes of %d tokens", tokens)

    def _step(self, model: Any, inputs: list[dict[str, Any]]) -> torch.Tensor:
        model.train()
        total = torch.zeros((), device=self.args.device)
        for number, micro_batch in enumerate(inputs, start=1):
            last = number == len(inputs)
            # Gradients are reduced once a step, in its last backward pass.
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
        weights, soft_labels, margins = (inputs.pop(name) for name in SAID)
        scale, answers = inputs.pop("scale"), inputs.pop("answers", None)
        with self.language.reading() if self.language else nullcontext():
            outputs = model(**inputs, use_cache=False)
        rewards = outputs.logits.float().view(-1, 2)
        losses = pair_losses(
            rewards[:, 0] - rewards[:, 1],
            kind=self.pair_loss,  # type: ignore[arg-type]
            hinge_margin=self.hinge_margin,
            soft_labels=soft_labels,
            asked=margins,
        )
        total = (losses * weights).sum()
        if self.language:
            total = self.language.added_to(total, answers)
        loss = total * scale
        return (loss, outputs) if return_outputs else loss
