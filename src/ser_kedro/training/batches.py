"""What an optimiser step reads: as many pairs each time, cut by their tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch.utils.data import Dataset

from ser_kedro.models import pack
from ser_kedro.models.pack import Packing, Row
from ser_kedro.training.params import RewardParams

# Batches that are made from one stretch of shuffled pairs, by length. More of them
# leave less padding, and batches that are less random.
MEGABATCH = 16
# What is said of a pair: how much it counts, P(chosen is better), and by how much.
SAID = ("weight", "soft_label", "margin")


@dataclass(frozen=True)
class Shard:
    """Which part of every step is this process's.

    Attributes:
        rank: Number of this process, from 0.
        world: How many processes share a step.
    """

    rank: int = 0
    world: int = 1


class PairSteps(Dataset):
    """Optimiser steps by their number; a step is a list of micro-batches.

    The pairs are walked through ``epochs`` times, each time in a new order, and cut
    into steps of exactly ``batch_size`` pairs of like length. The steps depend on the
    seed alone, so an interrupted run is resumed where it was.
    """

    def __init__(
        self,
        rows: Any,
        packing: Packing,
        *,
        batch_size: int,
        epochs: float,
        max_tokens_per_microbatch: int,
        pad_token_id: int,
        seed: int,
        answers: bool = False,
        shard: Shard = Shard(),
    ) -> None:
        """Plan the steps.

        Args:
            rows: Encoded pairs, a ``datasets.Dataset``: ``prompt_ids``,
                ``chosen_ids``, ``rejected_ids`` and the columns of ``SAID``.
            packing: Whether rows may be packed.
            batch_size: Pairs of a step, over all processes.
            epochs: How often each pair is seen; the last step is filled up.
            max_tokens_per_microbatch: Padded tokens of a forward pass.
            pad_token_id: What fills short rows.
            seed: Draws the order.
            answers: Say which tokens of the responses are predicted, for a language
                model's loss.
            shard: What of each step this process reads.
        """
        self.rows, self.packing, self.shard = rows, packing, shard
        self.answers = answers
        self.max_tokens_per_microbatch, self.pad_token_id = (
            max_tokens_per_microbatch,
            pad_token_id,
        )
        prompt, chosen, rejected = (
            column_lengths(rows, name)
            for name in ("prompt_ids", "chosen_ids", "rejected_ids")
        )
        self.packed_tokens = prompt + chosen + rejected
        self.plain_tokens = 2 * (prompt + np.maximum(chosen, rejected))
        # By one length in any case: packing changes the speed, not the order.
        self.steps = plan_steps(self.packed_tokens, batch_size, epochs, seed)

    def __len__(self) -> int:
        """Return the number of optimiser steps."""
        return len(self.steps)

    def __getitem__(self, step: int) -> list[dict[str, Any]]:
        """Return the micro-batches of a step that are this process's.

        Each has the arguments of ``forward`` for ``n`` pairs, first the chosen then
        the rejected response of each; the columns of ``SAID`` of shape ``(n,)``;
        and ``scale``, what one of its pairs counts in the mean over the step, times
        the number of processes, over which gradients are averaged. Where they are asked
        for, ``answers`` are the tokens of ``answer_tokens``.
        """
        return self.batches(self.steps[step], self.packing, self.shard)

    def batches(
        self, pairs: np.ndarray, packing: Packing, shard: Shard = Shard()
    ) -> list[dict[str, Any]]:
        """Return the same for some pairs as if they were a step.

        Args:
            pairs: Their rows, shape ``(n,)``.
            packing: Whether they are packed.
            shard: What of them a process reads; all of them, if not given.
        """
        batches = pack.cut(
            self.lengths(packing)[pairs].tolist(),
            self.max_tokens_per_microbatch * shard.world,
            shard.world,
        )
        return [
            self._micro_batch(pairs[batch], shard.world / len(pairs), packing, shard)
            for batch in batches
        ]

    def lengths(self, packing: Packing) -> np.ndarray:
        """Return the tokens that each pair takes, shape ``(n,)``."""
        return self.packed_tokens if packing.exact else self.plain_tokens

    def _micro_batch(
        self, pairs: np.ndarray, scale: float, packing: Packing, shard: Shard
    ) -> dict[str, Any]:
        longest = int(self.packed_tokens[pairs].max())
        mine = pairs[shard.rank :: shard.world]
        # All processes make as many passes: without a pair left, one that counts 0.
        mute = len(mine) == 0
        mine = self.rows[(pairs[:1] if mute else mine).tolist()]
        rows = [
            Row(prompt, [chosen, rejected])
            for prompt, chosen, rejected in zip(
                mine["prompt_ids"],
                mine["chosen_ids"],
                mine["rejected_ids"],
                strict=True,
            )
        ]
        packed = packing.fits(longest)
        batch = pack.collate(rows, self.pad_token_id, packed=packed)
        if self.answers:
            width = batch["input_ids"].shape[1]
            batch["answers"] = pack.answer_tokens(rows, width, packed=packed)
        for name in SAID:
            batch[name] = torch.tensor(mine[name], dtype=torch.float32)
        return {**batch, "scale": 0.0 if mute else scale}


def said_of(table: pa.Table, params: RewardParams) -> list[np.ndarray]:
    """Return the columns of ``SAID`` of a table of pairs, float32 of shape ``(n,)``.

    A pair of which nothing is said counts once, with a certain label and no margin.
    """
    defaults = {"weight": 1.0, "soft_label": 1.0, "margin": 0.0}
    found = []
    for name in SAID:
        read = name in table.column_names and (name != "margin" or params.use_margins)
        values = (
            table[name].to_numpy().astype(np.float32)
            if read
            else np.full(len(table), defaults[name], np.float32)
        )
        found.append(np.nan_to_num(values, nan=defaults[name]))
    return found


def plan_steps(
    costs: Sequence[int] | np.ndarray, batch_size: int, epochs: float, seed: int
) -> np.ndarray:
    """Return which pairs each step reads.

    Pairs are shuffled anew for each epoch; within each stretch of ``MEGABATCH`` steps
    they are sorted by length, cut, and the steps shuffled. A step is filled up from
    the next epoch's order rather than left short.

    Args:
        costs: Tokens of each pair, shape ``(n,)``.
        batch_size: Pairs of a step; ``n`` where there are fewer.
        epochs: How often each pair is seen.
        seed: Draws the order.

    Returns:
        Indices of shape ``(steps, batch_size)``.
    """
    costs = np.asarray(costs)
    random = np.random.default_rng(seed)
    size = min(batch_size, len(costs))
    steps = math.ceil(epochs * len(costs) / size)
    passes = math.ceil(steps * size / len(costs))
    order = np.concatenate([random.permutation(len(costs)) for _ in range(passes)])
    planned = []
    for start in range(0, steps * size, MEGABATCH * size):
        part = order[start : min(start + MEGABATCH * size, steps * size)]
        by_length = part[np.argsort(costs[part], kind="stable")]
        planned.append(random.permutation(by_length.reshape(-1, size)))
    return np.concatenate(planned)


def column_lengths(rows: Any, column: str) -> np.ndarray:
    """Return the lengths of a column of lists of a ``datasets.Dataset``, ``(n,)``."""
    lengths = [
        batch.column(0).value_lengths().to_numpy()
        for batch in rows.data.table.select([column]).to_batches()
    ]
    return np.concatenate(lengths).astype(np.int64)
