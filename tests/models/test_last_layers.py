"""Adapters on the last layers: who learns, who is run again, what is kept."""

import copy
from weakref import WeakSet

import pytest
import torch
from peft import get_peft_model
from torch.autograd.graph import saved_tensors_hooks
from transformers import (
    AlbertConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
)

from ser_kedro.errors import ModelError
from ser_kedro.models import pack
from ser_kedro.models.last_layers import (
    check_last_layers,
    layers_of,
    linear_names,
    stop_gradients,
)
from ser_kedro.models.lora import adapter_config
from ser_kedro.models.params import LoraParams
from tests.models.test_pack import DEEP, PACKED, PLAIN, ROWS, difference, random_model

CONFIGS = {**PACKED, **PLAIN}
KEPT_IN_BLOCKS = ("llama", "qwen3", "gemma2", "gpt2", "gpt_neox", "bert")


def adapted(name, last_layers, task="SEQ_CLS", target_modules="all-linear"):
    """A random model in training, with adapters that do something."""
    model = random_model(CONFIGS[name])
    if task == "CAUSAL_LM":
        model = AutoModelForCausalLM.from_config(copy.deepcopy(CONFIGS[name]))
    lora = LoraParams(
        r=2, alpha=8, last_layers=last_layers, target_modules=target_modules
    )
    settings = adapter_config(lora, task, model)
    stop_gradients(model, lora)
    model = get_peft_model(model, settings)
    drawn = torch.Generator().manual_seed(5)
    for key, weight in model.named_parameters():
        if "lora_B" in key:
            torch.nn.init.normal_(weight, std=0.1, generator=drawn)
    return model.train()


def checkpointed(model, reentrant=False):
    """Do what TRL's trainers do."""
    model.enable_input_require_grads()
    model.base_model.model.activation_checkpointing_enable({"use_reentrant": reentrant})
    return model


def gradients(model):
    """Loss and gradients of a pass over pairs."""
    torch.manual_seed(2)  # dropout
    output = model(**pack.collate(ROWS, 0, packed=False)).logits
    loss = output.float().pow(2).mean()
    loss.backward()
    named = model.named_parameters()
    return float(loss.detach()), {n: w.grad for n, w in named if w.grad is not None}


def trained(model):
    return {name for name, w in model.named_parameters() if w.requires_grad}


@pytest.mark.parametrize("name", CONFIGS)
def test_every_matrix_of_the_last_layer_and_the_head_are_trained(name):
    model = adapted(name, 1)

    first, last = layers_of(model.base_model.model)

    adapters = [m for m in last.modules() if hasattr(m, "lora_A")]
    assert len(adapters) == len(linear_names(layers_of(random_model(CONFIGS[name]))[1]))
    head = {n for n in trained(model) if "modules_to_save" in n}
    assert head
    assert len(trained(model)) == 2 * len(adapters) + len(head)
    assert not any(w.requires_grad for w in first.parameters())


@pytest.mark.parametrize("name", CONFIGS)
def test_checkpointing_gives_the_same_gradients_and_runs_frozen_layers_once(name):
    loss, expected = gradients(adapted(name, 1))
    model = checkpointed(adapted(name, 1))
    runs = {}
    for number, layer in enumerate(layers_of(model.base_model.model)):
        # A layer is computed again behind its own hooks, but not behind inner ones.
        inner = next(m for m in layer.children() if list(m.parameters()))
        runs[number] = []
        inner.register_forward_hook(
            lambda *_, number=number: runs[number].append(torch.is_grad_enabled())
        )

    again, found = gradients(model)

    assert again == pytest.approx(loss, rel=1e-5)
    assert found.keys() == expected.keys() == trained(model)
    for key, gradient in expected.items():
        assert difference(found[key], gradient) < 1e-4, key
    assert (len(runs[0]), len(runs[1])) == (1, 2)


def test_gradients_are_those_of_adapters_everywhere():
    everywhere = adapted("llama", None)
    last = adapted("llama", 1)
    with torch.no_grad():
        for name, weight in everywhere.named_parameters():
            if "layers.0" in name and "lora_B" in name:
                weight.zero_()  # there the adapters do nothing yet
    shared = {n: w for n, w in everywhere.state_dict().items() if "layers.0" not in n}
    last.load_state_dict(shared, strict=False)

    loss, expected = gradients(everywhere)
    ours, found = gradients(checkpointed(last))

    assert ours == pytest.approx(loss, rel=1e-6)
    assert found.keys() == {n for n in expected if "layers.0" not in n}
    assert all(difference(found[name], expected[name]) < 1e-5 for name in found)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("name", KEPT_IN_BLOCKS)
def test_nothing_is_kept_below_the_first_trained_layer(name, checkpointing):
    model = adapted(name, 1)
    if checkpointing:
        checkpointed(model)
    place, alive = ["outside"], WeakSet()
    for layer, where in zip(layers_of(model.base_model.model), ("below", "above")):
        layer.register_forward_pre_hook(lambda *_, where=where: place.append(where))

    class Kept:
        def __init__(self, tensor):
            self.tensor, self.place = tensor, place[-1]
            alive.add(self)

    with saved_tensors_hooks(Kept, lambda kept: kept.tensor):
        output = model(**pack.collate(ROWS, 0, packed=False)).logits

    assert output.requires_grad
    assert "below" not in {kept.place for kept in alive}
    assert sum(kept.tensor.nbytes for kept in alive if kept.place == "above")


def test_packed_rows_too():
    model = random_model(PACKED["llama"])
    packing = pack.enable(model)
    lora = LoraParams(r=2, alpha=8, last_layers=1)
    settings = adapter_config(lora, "SEQ_CLS", model)
    stop_gradients(model, lora)
    model = checkpointed(get_peft_model(model, settings).train())
    first, _ = layers_of(model.base_model.model)
    runs = []
    first.mlp.register_forward_hook(lambda *_: runs.append(1))

    rewards = model(**pack.collate(ROWS, 0, packed=True)).logits
    rewards.pow(2).mean().backward()

    assert packing.exact
    assert len(runs) == 1
    assert {n for n, w in model.named_parameters() if w.grad is not None} == trained(
        model
    )


def test_under_zero_3_checkpointing_is_reentrant_and_trains_them_all(monkeypatch):
    loss, expected = gradients(adapted("llama", 1))
    place = "ser_kedro.models.last_layers.is_zero3_enabled"
    monkeypatch.setattr(place, lambda: True)

    again, found = gradients(checkpointed(adapted("llama", 1), reentrant=True))

    assert again == pytest.approx(loss, rel=1e-6)
    assert found.keys() == expected.keys()
    assert all(difference(found[name], expected[name]) < 1e-5 for name in found)


def test_of_a_language_model_the_output_layer_is_left_alone():
    model = adapted("gpt2", 1, "CAUSAL_LM")

    assert trained(model)
    assert all(".h.1." in name for name in trained(model))


def test_chosen_modules_of_the_last_layer():
    names = trained(adapted("llama", 1, target_modules=["q_proj"]))

    places = {name.partition(".lora_")[0] for name in names if "lora" in name}
    assert places == {"base_model.model.model.layers.1.self_attn.q_proj"}


def test_all_layers_are_as_many_as_none():
    assert trained(adapted("llama", 2)) == trained(adapted("llama", None))


def test_more_layers_than_there_are():
    with pytest.raises(ModelError, match="last_layers=3: the model has 2 layers"):
        adapted("llama", 3)
    with pytest.raises(ModelError, match="sft.lora.last_layers=5: the model has 4"):
        check_last_layers(4, 5, "sft")


def test_layers_that_share_their_weights_are_refused():
    config = AlbertConfig(**{**DEEP, "embedding_size": 16})
    model = AutoModelForSequenceClassification.from_config(config)
    with pytest.raises(ModelError, match="of type albert.*leave last_layers null"):
        adapter_config(LoraParams(r=2, alpha=8, last_layers=1), "SEQ_CLS", model)
