"""Every preset's model, on the meta device, against the published counts."""

import pytest

from ser_kedro.models.params import LoraParams
from ser_kedro.planning.shape import shape_of
from ser_kedro.training.params import RewardParams, SftParams
from tests.planning.presets import preset

# Parameters of the published language models, and whether their head is a matrix of
# its own (vocabulary x hidden), which a reward model replaces by one row.
KNOWN = {
    "llama3_8b": (8_030_261_248, 128_256 * 4096),
    "mistral_7b": (7_241_732_096, 32_000 * 4096),
    "llama2_13b": (13_015_864_320, 32_000 * 5120),
    "llama2_70b": (68_976_648_192, 32_000 * 8192),
    "qwen3_0_6b": (596_049_920, 0),
    "qwen3_1_7b": (1_720_574_976, 0),
}


@pytest.mark.parametrize("name", KNOWN)
def test_counts_are_the_published_ones(config, name):
    whole, head = KNOWN[name]
    read = config(name)
    assert shape_of(read, "CAUSAL_LM").parameters == whole
    reward = shape_of(read, "SEQ_CLS")
    assert reward.parameters == whole - head + read.hidden_size
    assert reward.trainable == reward.parameters


@pytest.mark.parametrize("name", KNOWN)
def test_preset_finds_its_adapters(config, name):
    params = RewardParams.model_validate(preset(name)["reward"])
    read = config(name)
    reward = shape_of(read, "SEQ_CLS", params.lora)
    if params.lora is None:
        assert reward.trainable == reward.parameters
        return
    # Seven matrices a layer: r x (in + out) each, and the head of one label.
    h, i = read.hidden_size, read.intermediate_size
    q, kv = reward.queries, reward.keys
    widths = (h + q) + 2 * (h + kv) + (q + h) + 2 * (h + i) + (i + h)
    adapters = params.lora.r * widths * read.num_hidden_layers
    assert reward.trainable == adapters + h
    assert reward.adapted_inputs == read.num_hidden_layers * (5 * h + q + i)


def test_adapters_on_the_last_layers(config):
    read = config("qwen3_0_6b")
    everywhere = shape_of(read, "SEQ_CLS", LoraParams(r=8, alpha=32))
    last = shape_of(read, "SEQ_CLS", LoraParams(r=8, alpha=32, last_layers=7))
    head = read.hidden_size
    assert (last.trainable - head) * 4 == everywhere.trainable - head
    assert last.adapted_inputs * 4 == everywhere.adapted_inputs
    assert (last.layers, last.last_layers) == (28, 7)


@pytest.mark.parametrize("name", ["llama3_8b", "mistral_7b", "llama2_13b"])
def test_settings_of_the_paper(name):
    reward = RewardParams.model_validate(preset(name)["reward"])
    assert reward.batch_size == 8 * 5
    assert reward.lora == LoraParams(r=8, alpha=32, dropout=0.1)
    assert SftParams.model_validate(preset(name)["sft"]).batch_size == 16


def test_settings_of_the_paper_for_70b():
    reward = RewardParams.model_validate(preset("llama2_70b")["reward"])
    assert reward.batch_size == 16 * 5
    assert reward.lora == LoraParams(r=2, alpha=32, dropout=0.1)


def test_another_architecture():
    from transformers import GPT2Config

    small = GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=100, n_positions=16)
    shape = shape_of(small, "CAUSAL_LM")
    assert (shape.layers, shape.hidden, shape.intermediate) == (2, 32, 128)
