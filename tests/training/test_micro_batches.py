import pytest
import torch
from transformers import LlamaConfig, LlamaForSequenceClassification

from ser_kedro.training import micro_batches
from ser_kedro.training.micro_batches import (
    LEAST,
    MOST,
    largest_pass,
    room_of_a_pass,
    tokens_that_fit,
)

GIB = 2**30
WIDE = LlamaConfig(
    vocab_size=64,
    hidden_size=64,
    intermediate_size=4096,
    num_hidden_layers=4,
    num_attention_heads=2,
    pad_token_id=0,
    num_labels=1,
)


@pytest.mark.parametrize(
    ("room", "a_token", "tokens"),
    [
        (1000_000, 1000, 512),
        (1024_000, 1000, 1024),
        (1, 1000, LEAST),
        (-5e9, 1000, LEAST),
        (1e15, 1000, MOST),
    ],
)
def test_the_largest_pass_is_a_power_of_two_within_bounds(room, a_token, tokens):
    assert largest_pass(room, a_token) == tokens


@pytest.mark.parametrize(
    ("memory", "states", "gpu", "room"),
    [
        (10 * GIB, 3 * GIB, True, 5 * GIB),
        (10 * GIB, 3 * GIB, False, 2 * GIB),  # small passes are as fast there
        (5 * GIB, 3 * GIB, False, 1 * GIB),
    ],
)
def test_room_is_what_the_states_leave(memory, states, gpu, room):
    assert room_of_a_pass(memory, states, gpu=gpu) == pytest.approx(room)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return LlamaForSequenceClassification(WIDE)


@pytest.fixture
def tokens(model, monkeypatch):
    """Measure with so much memory of the host."""

    def fit(gib, **options):
        monkeypatch.setattr(micro_batches, "host_memory", lambda: int(gib * GIB))
        ids = torch.ones((1, 64), dtype=torch.long)

        def loss(copies):
            return model(ids.expand(copies, -1), use_cache=False).logits.sum()

        return tokens_that_fit(model, loss, 64, **options)

    return fit


def test_less_memory_gives_shorter_passes(tokens):
    found = [tokens(gib) for gib in (0.2, 0.4, 24)]

    assert found[0] < found[1] < found[2]
    assert found == sorted(found)


def test_checkpointing_gives_longer_passes(model, tokens):
    whole = tokens(0.3)
    model.gradient_checkpointing_enable({"use_reentrant": False})

    assert tokens(0.3) >= 2 * whole


def test_frozen_weights_need_no_gradients(model, tokens):
    whole = tokens(0.25)

    assert tokens(0.25, adapted=True) > whole


def test_measuring_draws_no_number(tokens):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    tokens(1)

    assert torch.equal(torch.rand(3), expected)


def test_where_even_measuring_runs_out_of_memory_passes_are_the_shortest(model):
    def loss(copies):
        raise torch.OutOfMemoryError("CUDA out of memory")

    assert tokens_that_fit(model, loss, 64) == LEAST
