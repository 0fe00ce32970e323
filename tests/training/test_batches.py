import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from ser_kedro.models.pack import Packing
from ser_kedro.training.batches import MEGABATCH, PairSteps, Shard, plan_steps

PACKED, PLAIN = Packing(True, "sdpa"), Packing(False, "for the test")


@pytest.fixture
def rows():
    random = np.random.default_rng(0)

    def ids(n):
        return random.integers(3, 90, n).tolist()

    return Dataset.from_list(
        [
            {
                "prompt_ids": ids(random.integers(1, 30)),
                "chosen_ids": ids(random.integers(1, 20)),
                "rejected_ids": ids(random.integers(1, 20)),
                "weight": float(i),
                "soft_label": 1.0,
                "margin": 0.0,
            }
            for i in range(48)
        ]
    )


@pytest.fixture
def steps(rows):
    def make(packing=PACKED, **changes):
        values = {
            "batch_size": 8,
            "epochs": 1,
            "max_tokens_per_microbatch": 200,
            "pad_token_id": 0,
            "seed": 0,
        }
        return PairSteps(rows, packing, **{**values, **changes})

    return make


def pairs_of(step):
    """The pairs of a step: their weight is their number."""
    return [int(weight) for batch in step for weight in batch["weight"]]


@given(
    count=st.integers(1, 200),
    batch=st.integers(1, 32),
    epochs=st.sampled_from([0.3, 1, 2, 2.5]),
    seed=st.integers(0, 5),
)
def test_every_step_has_as_many_pairs_and_epochs_see_each_pair(
    count, batch, epochs, seed
):
    costs = np.random.default_rng(seed).integers(1, 99, count)

    plan = plan_steps(costs, batch, epochs, seed)

    size = min(batch, count)
    assert plan.shape == (int(np.ceil(epochs * count / size)), size)
    seen = np.bincount(plan.ravel(), minlength=count)
    assert seen.max() - seen.min() <= 1
    assert seen.min() >= int(epochs)


def test_steps_group_like_lengths_and_stay_random():
    costs = np.random.default_rng(0).integers(1, 1000, 4096)

    plan = plan_steps(costs, 16, 1, seed=0)

    shuffled = np.random.default_rng(1).permutation(4096).reshape(-1, 16)
    assert (
        np.ptp(costs[plan], axis=1).mean() < np.ptp(costs[shuffled], axis=1).mean() / 5
    )
    order = costs[plan].mean(axis=1)
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.2
    # Short pairs do not come before long ones, in the whole nor in its parts.
    for start in range(0, len(order), MEGABATCH):
        part = order[start : start + MEGABATCH]
        assert np.any(np.diff(part) < 0) and np.any(np.diff(part) > 0)


def test_epochs_are_shuffled_anew_and_the_seed_draws_them():
    costs = np.arange(256)
    one, two = plan_steps(costs, 8, 1, seed=0), plan_steps(costs, 8, 2, seed=0)

    assert not np.array_equal(two[:32], two[32:])
    assert {tuple(sorted(step)) for step in two[:32]} != {
        tuple(sorted(step)) for step in two[32:]
    }
    assert np.array_equal(one, plan_steps(costs, 8, 1, seed=0))
    assert not np.array_equal(one, plan_steps(costs, 8, 1, seed=1))


@pytest.mark.parametrize("packing", [PACKED, PLAIN])
def test_a_budget_cuts_micro_batches_and_nothing_else(steps, packing):
    whole, cut = steps(packing, max_tokens_per_microbatch=10**6), steps(packing)

    assert len(whole) == len(cut) == 6
    for one, parts in zip(whole, cut):
        assert len(one) == 1
        assert sorted(pairs_of(one)) == sorted(pairs_of(parts))
        assert {batch["scale"] for batch in parts} == {1 / 8}
        for batch in parts:
            assert batch["input_ids"].numel() <= 200 or len(batch["weight"]) == 1
    assert max(len(step) for step in cut) > 1


def test_a_row_above_the_window_makes_its_micro_batch_plain(steps):
    some = steps(Packing(True, "sdpa", longest=40))

    kinds = {"segments" in batch for step in some for batch in step}

    assert kinds == {True, False}


@pytest.mark.parametrize("world", [2, 4])
def test_processes_share_each_step_evenly(steps, world):
    alone = steps()
    shards = [steps(shard=Shard(rank, world)) for rank in range(world)]

    for number in range(len(alone)):
        parts = [shard[number] for shard in shards]
        assert len({len(part) for part in parts}) == 1
        assert {len(batch["weight"]) for part in parts for batch in part} <= set(
            range(1, 9)
        )
        together = [pair for part in parts for pair in pairs_of(part)]
        assert sorted(together) == sorted(pairs_of(alone[number]))
        assert {b["scale"] for part in parts for b in part} == {world / 8}


@pytest.mark.parametrize("world", [3, 5, 16])
def test_processes_that_cannot_share_a_step_evenly_make_as_many_passes(steps, world):
    alone = steps()
    shards = [steps(shard=Shard(rank, world)) for rank in range(world)]

    for number in range(len(alone)):
        parts = [shard[number] for shard in shards]
        assert len({len(part) for part in parts}) == 1
        # One that has no pair left makes a pass that counts nothing.
        counted = [[b for b in part if b["scale"]] for part in parts]
        assert {b["scale"] for part in counted for b in part} == {world / 8}
        together = [pair for part in counted for pair in pairs_of(part)]
        assert sorted(together) == sorted(pairs_of(alone[number]))
