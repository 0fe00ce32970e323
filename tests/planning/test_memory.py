"""The arithmetic of memory, by hand, by DeepSpeed and by what autograd keeps."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForSequenceClassification

from ser_kedro.models.params import LoraParams
from ser_kedro.planning import memory
from ser_kedro.planning.devices import Devices
from ser_kedro.planning.shape import ModelShape, shape_of

P, T = 1000, 40
FROZEN = ModelShape(P, T, 100, 2, 8, 8, 4, 16, 0)
FULL = ModelShape(P, P, 100, 2, 8, 8, 4, 16, 0)


def states(shape, **devices):
    need = memory.training(shape, Devices(memory_bytes=None, **devices), tokens=0)
    return need.weights, need.gradients, need.optimizer, need.host


class TestStates:
    def test_one_device_in_fp32(self):
        assert states(FROZEN, count=1, bf16=False) == (4 * P, 4 * T, 8 * T, 0)

    def test_autocast_keeps_copies_of_what_is_trained(self):
        assert states(FROZEN, count=1) == (4 * P + 2 * T, 4 * T, 8 * T, 0)

    def test_plain_data_parallelism_has_buckets(self):
        assert states(FROZEN, count=4, bf16=False) == (4 * P, 8 * T, 8 * T, 0)

    @pytest.mark.parametrize(
        ("stage", "expected"),
        [
            (1, (2 * P, 6 * T, 12 * T // 4, 0)),
            (2, (2 * P, 6 * T // 4, 12 * T // 4, 0)),
            (3, (2 * P // 4 + 2 * 2 * 100, 6 * T // 4, 12 * T // 4, 0)),
        ],
    )
    def test_zero_shares_more_with_each_stage(self, stage, expected):
        assert states(FROZEN, count=4, zero_stage=stage) == expected

    def test_offload_moves_to_the_host(self):
        given = {"count": 4, "zero_stage": 3}
        weights, _, optimizer, host = states(FROZEN, **given, offload="optimizer")
        assert (weights, optimizer, host) == (900, 0, 12 * T // 4)
        weights, _, optimizer, host = states(FROZEN, **given, offload="parameters")
        assert (weights, optimizer, host) == (400, 0, 2 * P // 4 + 12 * T // 4)


class TestAgainstDeepSpeed:
    """DeepSpeed's estimators assume that every weight is trained."""

    def test_zero_2(self):
        stages = pytest.importorskip("deepspeed.runtime.zero.stage_1_and_2")
        _, expected = stages.estimate_zero2_model_states_mem_needs(
            P, num_gpus_per_node=8, cpu_offload=False
        )
        assert sum(states(FULL, count=8, zero_stage=2)) == expected

    def test_zero_3(self):
        stage3 = pytest.importorskip("deepspeed.runtime.zero.stage3")
        _, expected, _ = stage3.estimate_zero3_model_states_mem_needs(
            P, 100, num_gpus_per_node=8, cpu_offload=False, cpu_offload_params=False
        )
        # It leaves out the 16-bit shard of the weights, 2 bytes a parameter.
        ours = sum(states(FULL, count=8, zero_stage=3))
        assert ours == expected + 2 * P // 8


def kept(model, tokens, autocast=False):
    """Bytes of the tensors that autograd keeps for a backward pass."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    found, alive = {}, []

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)  # or its address would be used again
        return tensor

    ids = torch.ones(2, tokens // 2, dtype=torch.long)
    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=autocast),
    ):
        model(input_ids=ids, use_cache=False)
    return sum(found.values())


def tiny(layers, **changes):
    sizes = {
        "hidden_size": 128,
        "intermediate_size": 384,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 64,
        "num_hidden_layers": layers,
        "pad_token_id": 0,
    }
    return LlamaConfig(**sizes | changes, num_labels=1, problem_type="regression")


class TestActivations:
    @pytest.mark.parametrize("lora", [None, 0.0, 0.1], ids=["full", "lora", "dropout"])
    @pytest.mark.parametrize("mode", ["fp32", "autocast", "bf16"])
    @pytest.mark.parametrize("wide", [False, True])
    def test_is_what_autograd_keeps(self, mode, lora, wide):
        from peft import get_peft_model

        from ser_kedro.models.lora import adapter_config

        params = None if lora is None else LoraParams(r=8, alpha=32, dropout=lora)
        sizes = {"intermediate_size": 1024} if wide else {}
        measured = []
        for layers in (2, 4):
            model = LlamaForSequenceClassification(tiny(layers, **sizes))
            model.to(torch.bfloat16 if mode == "bf16" else torch.float32)
            if params is not None:
                model = get_peft_model(model, adapter_config(params, "SEQ_CLS", model))
            measured.append(kept(model.train(), 128, mode == "autocast"))
        shape = shape_of(tiny(2, **sizes), "SEQ_CLS", params)
        ours = memory.activations(shape, mode, 128, gpu=False)
        # Two layers' worth: what lies outside of them cancels out.
        assert ours == pytest.approx(measured[1] - measured[0], rel=0.25)

    @pytest.mark.parametrize("checkpointing", [False, True])
    def test_layers_below_the_adapted_ones_keep_nothing(self, checkpointing):
        from dataclasses import replace

        deep = replace(FROZEN, layers=8, last_layers=2, adapted_inputs=60)
        flat = replace(FROZEN, layers=2, adapted_inputs=60)
        ours, expected = (
            memory.activations(shape, "bf16", 10, checkpointing)
            for shape in (deep, flat)
        )
        assert ours == expected

    def test_checkpointing_keeps_inputs_and_one_layer(self):
        whole = memory.activations(FULL, "bf16", 10)
        block = whole // FULL.layers
        again = memory.activations(FULL, "bf16", 10, checkpointing=True)
        assert again == block + 10 * 2 * FULL.layers * FULL.hidden

    def test_logits_count_for_a_language_model(self):
        from dataclasses import replace

        language = replace(FULL, vocabulary=100)
        more = memory.activations(language, "bf16", 10)
        assert more - memory.activations(FULL, "bf16", 10) == 10 * 100 * 14


class TestPpo:
    GIVEN = {"prompt": 8, "response": 8, "rollouts": 2, "minibatch": 1}

    def test_one_base_serves_policy_reference_and_value(self):
        devices = Devices(1, None, bf16=False)
        need = memory.ppo(FROZEN, FULL, devices, **self.GIVEN)
        assert need.weights == 4 * P + 4 * P  # the policy's and the reward model's
        assert (need.gradients, need.optimizer) == (4 * T, 8 * T)

    def test_a_whole_policy_needs_a_reference_of_its_own(self):
        devices = Devices(1, None, bf16=False)
        assert memory.ppo(FULL, FULL, devices, **self.GIVEN).weights == 3 * 4 * P

    def test_many_rollouts_fill_the_memory_with_keys_and_values(self):
        devices = Devices(1, None, bf16=False)
        need = memory.ppo(FROZEN, FULL, devices, **self.GIVEN | {"rollouts": 10**6})
        assert need.activations == 2 * 4 * 2 * 4 * 16 * 10**6


def test_scoring_keeps_weights_and_one_layer():
    need = memory.scoring(FULL, Devices(1, None, bf16=False), tokens=10)
    assert (need.weights, need.gradients, need.optimizer) == (4 * P, 0, 0)
    assert need.activations == 10 * 4 * (4 * 8 + 2 * 8 + 2 * 4 + 3 * 16)
