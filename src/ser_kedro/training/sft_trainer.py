"""Rows of SFT shared out so that a step is the same over any number of processes."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from typing import Any

import torch
from datasets import Dataset, concatenate_datasets
from torch.utils.data import DataLoader, Sampler
from trl import SFTTrainer

from ser_kedro.models.heap import keep_freed_memory

# What the trainer's loss ignores.
NO_LOSS = -100


class ShardedBatchSampler(Sampler[list[int]]):
    """Micro-batches of one process: its rows of each step, every epoch in a new order.

    The last step of an epoch has the rows that are left. All processes have as many
    micro-batches; one that has no row left gets the row ``rows``, which is nobody's.
    """

    def __init__(
        self, rows: int, step: int, micro: int, seed: int, rank: int = 0, world: int = 1
    ) -> None:
        """Plan for a process.

        Args:
            rows: Rows of the data.
            step: Rows of an optimiser step, over all processes.
            micro: Rows of a micro-batch.
            seed: Draws the order.
            rank: Number of this process, from 0.
            world: Processes.
        """
        self.rows, self.step, self.micro = rows, step, micro
        self.seed, self.rank, self.world = seed, rank, world
        self.epoch = 0

    @property
    def batch_sampler(self) -> ShardedBatchSampler:
        """This: the trainer sets the epoch of what lies one level further down."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Draw the order of this epoch next."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the number of micro-batches of an epoch."""
        whole, rest = divmod(self.rows, self.step)
        return whole * self._passes(self.step) + self._passes(rest)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the rows of each micro-batch."""
        drawn = torch.Generator().manual_seed(self.seed + self.epoch)
        order = torch.randperm(self.rows, generator=drawn).tolist()
        for start in range(0, self.rows, self.step):
            step = order[start : start + self.step]
            mine = step[self.rank :: self.world]
            for number in range(self._passes(len(step))):
                part = mine[number * self.micro : (number + 1) * self.micro]
                yield part or [self.rows]
        self.epoch += 1

    def _passes(self, rows: int) -> int:
        return ceil(ceil(rows / self.world) / self.micro)


class SerSftTrainer(SFTTrainer):  # type: ignore[misc]
    """``SFTTrainer`` over a ``ShardedBatchSampler``, for any number of processes."""

    def __init__(self, *, batch_size: int, **kwargs: Any) -> None:
        """Take what ``SFTTrainer`` takes, and the rows of a step."""
        keep_freed_memory()
        super().__init__(**kwargs)
        self.batch_size = batch_size

    def get_train_dataloader(self) -> DataLoader:
        """Return this process's micro-batches."""
        rows = self._remove_unused_columns(self.train_dataset, "training")
        mute = {name: rows[0][name][:2] for name in rows.column_names}
        mute["labels"] = [NO_LOSS] * 2
        sampler = ShardedBatchSampler(
            len(rows),
            self.batch_size,
            self.args.per_device_train_batch_size,
            self.args.seed,
            self.accelerator.process_index,
            self.accelerator.num_processes,
        )
        return DataLoader(
            concatenate_datasets(
                [rows, Dataset.from_list([mute], features=rows.features)]
            ),
            batch_sampler=sampler,
            collate_fn=self.data_collator,
            pin_memory=self.args.dataloader_pin_memory,
        )
