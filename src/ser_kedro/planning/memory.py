"""Memory of one device, in bytes, by arithmetic alone.

Model states follow ZeRO (Rajbhandari et al., 2020), counted as DeepSpeed's own
estimators count them, but for the trainable part: under DeepSpeed with bf16 a
trainable weight costs 2 bytes, 6 of gradients (bf16, and fp32 at the step) and 12 of
optimiser (fp32 copy and Adam's two moments); a frozen one costs its 2 bytes.

Activations are what autograd keeps of a block with gated feed-forward part and fused
attention (no matrix of scores), counted with ``saved_tensors_hooks`` on transformers'
Llama. They are linear in tokens, as in Korthikanti et al. (2022), whose ``34 h`` bytes
a token and layer hold for GPT's block. With gradient checkpointing a block keeps its
input alone, and one block at a time is whole. Blocks below the last ones that are
adapted keep nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from ser_kedro.planning.devices import Devices
from ser_kedro.planning.shape import ModelShape

Mode = Literal["fp32", "autocast", "bf16"]

# CUDA's context, the buffers of NCCL, what the allocator cannot use.
RESERVE = 2 * 2**30


@dataclass(frozen=True)
class _Kept:
    """Bytes that a block keeps for one token, by the width they go with."""

    hidden: int
    queries: int
    keys: int
    intermediate: int
    residual: int
    logits: int
    # Of an adapted matrix's input: its copy, the copy that a dropout makes, and the
    # dropout's mask on a CPU (on a GPU it is one byte).
    adapter: int
    dropped: int
    mask: int


_KEPT: dict[Mode, _Kept] = {
    "fp32": _Kept(32, 8, 8, 16, residual=4, logits=12, adapter=0, dropped=2, mask=4),
    # The residual stream stays in fp32, and what a matrix reads is kept in bf16 too.
    "autocast": _Kept(
        52, 6, 6, 11, residual=4, logits=14, adapter=0, dropped=2, mask=2
    ),
    "bf16": _Kept(20, 4, 4, 8, residual=2, logits=14, adapter=3, dropped=3, mask=4),
}


@dataclass(frozen=True)
class Memory:
    """Bytes on one device at the worst moment.

    Attributes:
        weights: Of all models, with what ZeRO-3 gathers.
        gradients: Of the trainable part.
        optimizer: States of the trainable part, with fp32 copies of 16-bit weights.
        activations: For the largest batch; while generating, keys and values.
        reserve: Taken by the device's own libraries.
        host: Bytes of the host's memory that one device's share of ZeRO lies in.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    reserve: int = 0
    host: int = 0

    @property
    def total(self) -> int:
        """All of it on the device."""
        parts = (self.weights, self.gradients, self.optimizer, self.activations)
        return sum(parts) + self.reserve


def mode_of(devices: Devices, precision: str) -> Mode:
    """Return how weights and activations are held."""
    if precision == "fp32" or (precision == "auto" and not devices.bf16):
        return "fp32"
    return "bf16" if devices.zero_stage else "autocast"


def training(
    shape: ModelShape,
    devices: Devices,
    *,
    tokens: int,
    precision: str = "auto",
    checkpointing: bool = False,
) -> Memory:
    """Return the memory of a training step with AdamW.

    Args:
        shape: The model.
        devices: What it is trained on.
        tokens: Of one device's forward pass, padding included.
        precision: ``auto``, ``fp32`` or ``bf16``, as in ``TrainingParams``.
        checkpointing: Activations are computed again.
    """
    mode = mode_of(devices, precision)
    held, gradients, optimizer, host = _states(shape, devices, mode)
    return Memory(
        weights=held,
        gradients=gradients,
        optimizer=optimizer,
        activations=activations(shape, mode, tokens, checkpointing, devices.bf16),
        reserve=RESERVE if devices.bf16 else 0,
        host=host,
    )


def scoring(
    shape: ModelShape, devices: Devices, *, tokens: int, precision: str = "auto"
) -> Memory:
    """Return the memory of a forward pass without gradients over ``tokens``."""
    mode = mode_of(devices, precision)
    kept = _KEPT[mode]
    # One block's largest intermediate values, and the stream that passes through.
    width = 4 * shape.hidden + 2 * shape.queries + 2 * shape.keys
    width += 3 * shape.intermediate
    return Memory(
        weights=_weights(shape, devices, mode),
        gradients=0,
        optimizer=0,
        activations=tokens * kept.residual * width,
        reserve=RESERVE if devices.bf16 else 0,
        host=_host_weights(shape, devices, mode),
    )


def ppo(
    policy: ModelShape,
    reward: ModelShape,
    devices: Devices,
    *,
    prompt: int,
    response: int,
    rollouts: int,
    minibatch: int,
    precision: str = "auto",
    checkpointing: bool = False,
) -> Memory:
    """Return the memory of PPO: one base for policy, reference and value.

    The value is a head on the policy's hidden states; the reward model lies beside
    them, and every device holds all of both. The worst of generating and training
    counts.

    Args:
        policy: The language model with the policy's adapters.
        reward: The reward model.
        devices: What it runs on.
        prompt: Tokens of the longest prompt.
        response: New tokens at most.
        rollouts: Responses that a device generates at once.
        minibatch: Rows of a device's training pass.
        precision: As in ``TrainingParams``.
        checkpointing: Activations are computed again.
    """
    # Ranks share the prompts, not the weights: PPO refuses ZeRO.
    devices = replace(devices, zero_stage=0, offload="none")
    mode = scored = mode_of(devices, precision)
    adapters = policy.trainable < policy.parameters
    if adapters and mode == "autocast":
        mode = "bf16"  # frozen weights have no copy in fp32
    held, gradients, optimizer, host = _states(policy, devices, mode)
    length = prompt + response
    values = 2 * _width(mode) * policy.layers * policy.keys * length * rollouts
    step = activations(policy, mode, minibatch * length, checkpointing, devices.bf16)
    return Memory(
        # Without adapters the reference is a model of its own.
        weights=held
        + (0 if adapters else _weights(policy, devices, mode))
        + _weights(reward, devices, scored),
        gradients=gradients,
        optimizer=optimizer,
        activations=max(values, step),
        reserve=RESERVE if devices.bf16 else 0,
        host=host,
    )


def activations(
    shape: ModelShape,
    mode: Mode,
    tokens: int,
    checkpointing: bool = False,
    gpu: bool = True,
) -> int:
    """Return the bytes that a forward pass keeps for the backward pass.

    Args:
        shape: The model.
        mode: How activations are held.
        tokens: Of the pass.
        checkpointing: A block keeps its input alone.
        gpu: The mask of a dropout takes one byte.
    """
    kept = _KEPT[mode]
    layers = shape.last_layers or shape.layers
    block = (
        kept.hidden * shape.hidden
        + kept.queries * shape.queries
        + kept.keys * shape.keys
        + kept.intermediate * shape.intermediate
    )
    copy = kept.adapter
    if shape.adapter_dropout:
        copy = kept.dropped + (1 if gpu else kept.mask)
    block += copy * shape.adapted_inputs // layers
    head = kept.logits * shape.vocabulary
    if checkpointing:
        return tokens * (layers * kept.residual * shape.hidden + block + head)
    return tokens * (layers * block + head)


def _width(mode: Mode) -> int:
    return 2 if mode == "bf16" else 4


def _weights(shape: ModelShape, devices: Devices, mode: Mode) -> int:
    whole = _width(mode) * shape.parameters
    if devices.zero_stage < 3:
        return whole
    # The unit at work, and the next one, which is fetched meanwhile.
    gathered = min(2 * _width(mode) * shape.largest_unit, whole)
    if devices.offload == "parameters":
        return gathered
    return -(-whole // devices.count) + gathered


def _host_weights(shape: ModelShape, devices: Devices, mode: Mode) -> int:
    if devices.zero_stage < 3 or devices.offload != "parameters":
        return 0
    return _width(mode) * shape.parameters // devices.count


def _states(
    shape: ModelShape, devices: Devices, mode: Mode
) -> tuple[int, int, int, int]:
    """Return weights, gradients, optimiser states, and what lies on the host."""
    weights = _weights(shape, devices, mode)
    if mode == "autocast":
        weights += 2 * shape.trainable  # its copies, kept through the forward pass
    per_gradient, per_state = (6, 12) if mode == "bf16" else (4, 8)
    if not devices.zero_stage and devices.count > 1:
        per_gradient += 4  # the buckets of DistributedDataParallel
    gradients = per_gradient * shape.trainable
    states = per_state * shape.trainable
    if devices.zero_stage >= 2:
        gradients = -(-gradients // devices.count)
    if devices.zero_stage >= 1:
        states = -(-states // devices.count)
    host = _host_weights(shape, devices, mode)
    if devices.zero_stage and devices.offload != "none":
        # The step is computed there: fp32 gradients and states go along.
        return weights, gradients, 0, host + states
    return weights, gradients, states, host
