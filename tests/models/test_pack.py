import copy
import logging
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BloomConfig,
    FalconConfig,
    Gemma2Config,
    GemmaConfig,
    GPT2Config,
    GPTNeoConfig,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PhiConfig,
    Qwen2Config,
    Qwen3Config,
)

from ser_kedro.models.half import halve, keep_head_exact
from ser_kedro.models.pack import Row, collate, cut, enable
from ser_kedro.models.reward_model import head_name

VOCAB = 96
ANY = {"vocab_size": VOCAB, "num_labels": 1, "pad_token_id": 0}
DEEP = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    **ANY,
}
GROUPED = {**DEEP, "num_key_value_heads": 2}
GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128, **ANY}
LONG_ROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0] * 4,
    "long_factor": [2.0] * 4,
    "original_max_position_embeddings": 64,
}

PACKED = {
    "llama": LlamaConfig(**GROUPED),
    "llama eager": LlamaConfig(**GROUPED, attn_implementation="eager"),
    "mistral": MistralConfig(**GROUPED, sliding_window=None),
    "mistral with a wide window": MistralConfig(**GROUPED, sliding_window=64),
    "qwen2": Qwen2Config(**GROUPED),
    "qwen3": Qwen3Config(**GROUPED, head_dim=8),
    "gemma": GemmaConfig(**GROUPED, head_dim=8),
    "gemma2": Gemma2Config(**GROUPED, head_dim=8, sliding_window=64),
    "phi": PhiConfig(**DEEP),
    "phi3": Phi3Config(**GROUPED),
    "gpt2": GPT2Config(**GPT),
    "gpt_neox": GPTNeoXConfig(**DEEP),
    "gpt_neo": GPTNeoConfig(
        hidden_size=32,
        num_layers=2,
        num_heads=4,
        attention_types=[[["global", "local"], 1]],
        window_size=64,
        max_position_embeddings=128,
        **ANY,
    ),
}
PLAIN = {
    "bloom": BloomConfig(hidden_size=32, n_layer=2, n_head=4, **ANY),
    "bert": BertConfig(**DEEP),
    "falcon with alibi": FalconConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, alibi=True, **ANY
    ),
    "phi3 longrope": Phi3Config(
        **{**GROUPED, "max_position_embeddings": 128}, rope_parameters=LONG_ROPE
    ),
}


def random_model(config):
    """A random model, made louder: with small weights, attention hardly matters."""
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(copy.deepcopy(config))
    for name, weights in model.named_parameters():
        if weights.dim() > 1:
            torch.nn.init.normal_(weights, std=0.2)
    return model.eval()


def random_rows(sizes):
    numbers = torch.Generator().manual_seed(1)

    def ids(n):
        return torch.randint(3, VOCAB, (n,), generator=numbers).tolist()

    return [Row(ids(prompt), [ids(n) for n in tails]) for prompt, tails in sizes]


ROWS = random_rows([(9, (4, 7)), (1, (5, 1)), (14, (3, 3)), (3, (12, 2))])


def rewards_and_gradients(model, inputs):
    model.zero_grad()
    rewards = model(**inputs).logits.view(-1)
    chosen, rejected = rewards.view(-1, 2).T
    torch.nn.functional.softplus(rejected - chosen).mean().backward()
    gradients = {
        name: weights.grad.clone()
        for name, weights in model.named_parameters()
        if weights.grad is not None
    }
    return rewards.detach(), gradients


def difference(one, other):
    return float((one - other).norm() / other.norm().clamp_min(1e-9))


@pytest.mark.parametrize("name", PACKED)
def test_packed_rewards_and_gradients_are_the_plain_ones(name):
    model = random_model(PACKED[name])
    plain, theirs = rewards_and_gradients(model, collate(ROWS, 0, packed=False))

    packing = enable(model)
    packed, ours = rewards_and_gradients(model, collate(ROWS, 0, packed=True))

    assert packing.exact, packing
    torch.testing.assert_close(packed, plain, atol=1e-5, rtol=0)
    assert plain.std() > 0.01
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        if gradient.norm() > 1e-6:
            assert difference(ours[name], gradient) < 1e-4, name


@pytest.mark.parametrize("name", PACKED)
def test_in_bf16_packed_rewards_are_as_close_to_fp32_as_plain_ones(name):
    model = random_model(PACKED[name])
    with torch.no_grad():
        exact = model(**collate(ROWS, 0, packed=False)).logits
        with torch.autocast("cpu", torch.bfloat16):
            plain = model(**collate(ROWS, 0, packed=False)).logits.float()

    packing = enable(model, bf16=True)

    assert packing.exact, packing
    assert "bfloat16: " in packing.measured
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        packed = model(**collate(ROWS, 0, packed=True)).logits
    assert (plain - exact).norm() > 0
    # The plain ones have a head in bf16 on top.
    assert (packed - exact).norm() <= 1.5 * (plain - exact).norm()


@pytest.mark.parametrize("name", PACKED)
def test_with_weights_in_bf16_too(name):
    """As labelling holds them: what runs between the layers is bf16 as well."""
    model = random_model(PACKED[name])
    halve(model.base_model)
    keep_head_exact(model)
    exactly = copy.deepcopy(model).float()

    packing = enable(model)

    assert packing.exact, packing
    assert "bfloat16: " in packing.measured
    with torch.no_grad():
        exact = exactly(**collate(ROWS, 0, packed=False)).logits
        plain = model(**collate(ROWS, 0, packed=False)).logits
        packed = model(**collate(ROWS, 0, packed=True)).logits
    assert packed.dtype == torch.float32
    assert (plain - exact).norm() > 0
    assert (packed - exact).norm() <= 2 * (plain - exact).norm()


@pytest.mark.parametrize("name", ["bert", "bloom"])
def test_bf16_is_no_excuse(name):
    assert not enable(random_model(PLAIN[name]), bf16=True).exact


@pytest.mark.parametrize("name", ["llama", "bert"])
def test_weights_in_half_precision_are_judged_by_what_fp32_gives(name):
    model = random_model({**PACKED, **PLAIN}[name]).to(torch.bfloat16)

    packing = enable(model)

    assert packing.exact is (name == "llama")
    assert model.dtype == torch.bfloat16


def test_one_large_activation_is_no_reason_against_packing():
    """Real models have some, which a maximum over a spread took for a difference."""
    model = random_model(PACKED["llama"])
    with torch.no_grad():
        model.base_model.norm.weight[3] *= 100

    packing = enable(model.to(torch.bfloat16))

    assert packing.exact, packing


@pytest.mark.parametrize("name", PLAIN)
def test_where_packed_rows_would_be_read_otherwise_they_stay_plain(name, caplog):
    model = random_model(PLAIN[name])
    inputs = collate(ROWS, 0, packed=False)
    before, _ = rewards_and_gradients(model, inputs)

    with caplog.at_level(logging.INFO):
        packing = enable(model)

    assert not packing.exact
    assert not packing.fits(1)
    assert f"{type(model).__name__}: Packing disabled: " in caplog.text
    after, _ = rewards_and_gradients(model, inputs)
    assert torch.equal(before, after)


def test_the_choice_is_logged(caplog):
    with caplog.at_level(logging.DEBUG, logger="ser_kedro"):
        enable(random_model(PACKED["mistral with a wide window"]))

    assert "Packing enabled (sdpa, up to 64 tokens a row); packed and" in caplog.text
    assert re.search(r"\(fp32: \d\.\de-0\d, rounding \d\.\de-0\d, allowed", caplog.text)


def test_a_row_longer_than_the_window_stays_plain():
    packing = enable(random_model(PACKED["mistral with a wide window"]))

    assert packing.fits(64)
    assert not packing.fits(65)


def test_a_window_that_is_too_short_would_have_been_wrong():
    """What the limit is for: without it, rewards are off by whole digits."""
    config = MistralConfig(**GROUPED, sliding_window=8)
    model = random_model(config)
    plain, _ = rewards_and_gradients(model, collate(ROWS, 0, packed=False))

    packing = enable(model)
    # The trial's rows exceed so short a window, which gives it away too.
    assert not any(packing.fits(len(row.prompt) + 4) for row in ROWS[2:3])

    wide = enable(model := random_model(MistralConfig(**GROUPED, sliding_window=None)))
    packed, _ = rewards_and_gradients(model, collate(ROWS, 0, packed=True))
    assert wide.exact
    assert (packed - plain).abs().max() > 1e-3


def test_packing_can_be_switched_off(caplog):
    with caplog.at_level(logging.INFO):
        packing = enable(random_model(PACKED["llama"]), wanted=False)

    assert not packing.exact
    assert "packing is switched off" in caplog.text


def test_under_autocast_the_head_keeps_its_precision():
    model = random_model(PACKED["llama"])
    enable(model)

    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        rewards = model(**collate(ROWS, 0, packed=True)).logits

    assert rewards.dtype == torch.float32
    assert not torch.equal(rewards, rewards.bfloat16().float())


@pytest.mark.parametrize("tails", [(3,), (3, 1, 6), (2, 2, 2, 2, 2)])
def test_any_number_of_responses_share_a_prompt(tails):
    model = random_model(PACKED["llama"])
    rows = random_rows([(7, tails), (4, (5,))])
    with torch.no_grad():
        plain = model(**collate(rows, 0, packed=False)).logits

    enable(model)

    with torch.no_grad():
        packed = model(**collate(rows, 0, packed=True)).logits
    torch.testing.assert_close(packed, plain, atol=1e-5, rtol=0)


def test_a_packed_row_spelt_out():
    inputs = collate([Row([5, 6], [[7, 8], [9]]), Row([4], [[3]])], 0, packed=True)

    assert inputs["input_ids"].tolist() == [[5, 6, 7, 8, 9], [4, 3, 0, 0, 0]]
    assert inputs["position_ids"].tolist() == [[0, 1, 2, 3, 2], [0, 1, 0, 0, 0]]
    assert inputs["segments"].tolist() == [[0, 0, 1, 1, 2], [0, 1, -1, -1, -1]]
    assert inputs["ends"].tolist() == [3, 4, 6]


@given(
    costs=st.lists(st.integers(1, 60), max_size=40),
    tokens=st.integers(1, 200),
    multiple=st.integers(1, 3),
)
def test_batches_hold_every_row_once_within_the_budget(costs, tokens, multiple):
    batches = list(cut(costs, tokens, multiple))

    assert sorted(i for batch in batches for i in batch) == list(range(len(costs)))
    for batch in batches:
        longest = max(costs[i] for i in batch)
        assert len(batch) <= multiple or len(batch) * longest <= tokens
    for batch in batches[:-1]:
        assert len(batch) % multiple == 0


@pytest.mark.parametrize("config", [PACKED["llama"], PLAIN["bert"]])
def test_rewards_in_half_precision_have_all_digits(config):
    """A head in bf16 would give multiples of 0.5 near 100."""
    model = random_model(config)
    enable(model)
    torch.nn.init.normal_(model.get_submodule(head_name(model)).weight, std=100)

    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        rewards = model(**collate(ROWS, 0, packed=False)).logits

    assert rewards.dtype == torch.float32
    assert not torch.equal(rewards, rewards.bfloat16().float())
