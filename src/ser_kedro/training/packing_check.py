"""Packed training compared with plain training, on pairs that it is about to read."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ser_kedro.models.agreement import Agreement
from ser_kedro.models.distributed import least_of_ranks
from ser_kedro.models.memory_use import out_of_memory
from ser_kedro.models.pack import Packing
from ser_kedro.models.zero3 import is_zero3_enabled
from ser_kedro.training.batches import PairSteps

logger = logging.getLogger(__name__)

# Pairs that are compared.
_PAIRS = 2
# Numbers of the gradient that are compared, about.
_SAMPLE = 2**20


def check_packing(trainer: Any) -> None:
    """Compare packed training with plain training; without agreement, unpack.

    Two short pairs of the first step are read three times, in evaluation mode, so that
    no dropout differs: packed, as plain rows together, and as plain rows one pair at a
    time in fp32, which is the reference. The gradient decides. It has many numbers, so
    its rounding is known well, and it is what training follows.

    Args:
        trainer: A ``SerRewardTrainer`` that has not started. Its steps lose their
            packing where training would differ by more than rounding. The choice is
            logged, and is the same in all ranks.
    """
    steps: PairSteps = trainer.steps
    if not steps.packing.exact:
        return
    if is_zero3_enabled():
        logger.info("Packed training is not compared with plain: weights are in parts")
        return
    try:
        found = _compare(trainer, steps)
    except Exception as error:
        if not out_of_memory(error):
            raise
        found = None
    if found is None:  # the training will say so, where it runs out of memory as well
        trainer.model.zero_grad(set_to_none=True)
        logger.warning("Packed training is not compared with plain: out of memory")
        least_of_ranks(1, trainer.args.device)
        return
    words = f"gradients differ by a share of their spread ({found})"
    if least_of_ranks(int(found.holds), trainer.args.device):
        logger.debug("Packed training agrees with plain training: %s", words)
        return
    logger.warning("Packing disabled: packed and plain %s", words)
    steps.packing = Packing(False, f"packed and plain {words}")


def _compare(trainer: Any, steps: PairSteps) -> Agreement:
    first = steps.steps[0]
    pairs = first[np.argsort(steps.packed_tokens[first])[:_PAIRS]]
    plain = Packing(False, "to compare with")
    alone = [
        {**batch, "scale": 1 / len(pairs)}
        for pair in pairs
        for batch in steps.batches(pair[None], plain)
    ]
    trainer.model.eval()
    return Agreement.of(
        _gradient(trainer, steps.batches(pairs, steps.packing), trainer.autocast()),
        _gradient(trainer, steps.batches(pairs, plain), trainer.autocast()),
        _gradient(trainer, alone, nullcontext()),
    )


def _gradient(trainer: Any, batches: list[dict[str, Any]], precision: Any) -> Tensor:
    """Return some numbers of the gradient over micro-batches, shape ``(n, 1)``."""
    model = trainer.model
    for batch in batches:
        with precision:
            loss = trainer.compute_loss(model, trainer._prepare_inputs(batch))
        loss.backward()
    gradients = [
        weights.grad.flatten()
        for weights in model.parameters()
        if weights.grad is not None
    ]
    every = max(1, sum(map(len, gradients)) // _SAMPLE)
    sample = torch.cat([each[::every].float().cpu() for each in gradients])
    model.zero_grad(set_to_none=True)
    return sample[:, None]
