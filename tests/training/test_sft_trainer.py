from itertools import islice

import pytest
import torch
from accelerate.data_loader import SeedableRandomSampler
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import BatchSampler

from ser_kedro.training.sft_trainer import ShardedBatchSampler


@given(
    rows=st.integers(1, 70),
    step=st.integers(1, 16),
    micro=st.integers(1, 5),
    world=st.integers(1, 5),
)
def test_processes_share_every_step_and_make_as_many_passes(rows, step, micro, world):
    per_rank = [
        list(ShardedBatchSampler(rows, step, micro, 3, r, world)) for r in range(world)
    ]
    alone = [batch[0] for batch in ShardedBatchSampler(rows, step, 1, 3)]

    assert {len(batches) for batches in per_rank} == {
        len(ShardedBatchSampler(rows, step, micro, 3, 0, world))
    }
    passes = -(-(-(-step // world)) // micro)
    for number, start in enumerate(range(0, rows, step)):
        seen = [
            row
            for batches in per_rank
            for batch in islice(batches, number * passes, (number + 1) * passes)
            for row in batch
            if row != rows
        ]
        assert sorted(seen) == sorted(alone[start : start + step])
    assert all(len(b) <= micro for batches in per_rank for b in batches)


@pytest.mark.parametrize("epoch", [0, 3])
def test_the_order_is_that_of_the_trainer_that_it_takes_the_place_of(epoch):
    theirs = SeedableRandomSampler(range(10), data_seed=5, generator=torch.Generator())
    theirs.set_epoch(epoch)
    ours = ShardedBatchSampler(10, 4, 2, seed=5)
    ours.batch_sampler.set_epoch(epoch)

    assert list(ours) == list(BatchSampler(theirs, 2, drop_last=False))
    assert ours.epoch == epoch + 1
