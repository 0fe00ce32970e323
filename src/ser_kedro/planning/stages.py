"""The stages of a run, and what each needs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ser_kedro.planning import memory
from ser_kedro.planning.devices import Devices
from ser_kedro.planning.memory import Memory
from ser_kedro.planning.shape import ModelShape, shape_of
from ser_kedro.planning.work import Disk, Work, disk, sft_rows, steps
from ser_kedro.reward.params import (
    LoraParams,
    ModelParams,
    RewardParams,
    SftParams,
    TrainingParams,
)

# The paper's settings of PPO (docs/method.md): rollouts of a step over all devices,
# rows of a training pass, new tokens, and the policy's adapters.
_PPO_BATCH = 8
_PPO_ROWS = 1
_PPO_RESPONSE = 256
_PPO_LORA = LoraParams(r=16, alpha=32, dropout=0.05)


@dataclass(frozen=True)
class Stage:
    """One kind of heavy step.

    Attributes:
        name: What it is called in the plan.
        shape: The model at work.
        memory: On one device.
        batch: What a device works on at once, in words.
    """

    name: str
    shape: ModelShape
    memory: Memory
    batch: str


@dataclass(frozen=True)
class Plan:
    """All that the plan says.

    Attributes:
        model: Name of the model.
        devices: What it was planned for.
        mode: How weights are held: ``fp32``, ``autocast`` or ``bf16``.
        stages: In the order of the run.
        steps: Optimiser steps, by training; empty where the data are not there.
        disk: Bytes that the store will take.
        loops: Loops at most.
        work: What is known of the data and the store.
    """

    model: str
    devices: Devices
    mode: str
    stages: tuple[Stage, ...]
    steps: dict[str, int]
    disk: Disk
    loops: int
    work: Work


def make_plan(
    model: ModelParams,
    sft: SftParams,
    reward: RewardParams,
    devices: Devices,
    *,
    loops: int,
    work: Work,
) -> Plan:
    """Plan a run from its parameters; only the model's configuration is read.

    Args:
        model: Which model.
        sft: Settings of SFT.
        reward: Settings of the reward model.
        devices: What to run on.
        loops: Loops at most.
        work: What is known of the data.

    Raises:
        ModelError: If the configuration cannot be had.
    """
    from ser_kedro.reward.model import is_encoder

    config = config_of(model, max(sft.max_length, reward.max_length))
    scorer = shape_of(config, "SEQ_CLS", reward.lora)
    language = None
    stages = []
    if not is_encoder(config):
        language = shape_of(config, "CAUSAL_LM", sft.lora)
        stages.append(_training("sft", language, sft, devices, rows=1))
    stages.append(_training("reward training", scorer, reward, devices, rows=2))
    stages.append(_labelling(scorer, reward, devices))
    if language is not None:
        policy = shape_of(config, "CAUSAL_LM", _PPO_LORA)
        stages.append(_ppo(policy, scorer, sft, devices))
    mode = memory.mode_of(devices, reward.precision)
    return Plan(
        model=model.name,
        devices=devices,
        mode=mode,
        stages=tuple(stages),
        steps=_steps(sft, reward, work, language is not None),
        disk=disk(language, scorer, loops=loops, bf16=mode == "bf16", work=work),
        loops=loops,
        work=work,
    )


def config_of(model: ModelParams, max_length: int) -> Any:
    """Return a model's configuration: made, from its folder, the hub or the cache.

    Raises:
        ModelError: If it cannot be had.
    """
    from transformers import AutoConfig

    from ser_kedro.policy.scratch import scratch_config
    from ser_kedro.reward.model import from_pretrained

    if model.scratch is not None:
        return scratch_config(
            model.scratch, model.scratch.vocab_size, max_length, pad_token_id=0
        )
    return from_pretrained(AutoConfig, model.name, revision=model.revision)


def rows_of_a_pass(params: TrainingParams, devices: Devices) -> int:
    """Return the rows (pairs, for a reward model) of a device's forward pass."""
    share = math.ceil(params.batch_size / devices.count)
    return min(params.micro_batch_size or share, share)


def _training(
    name: str, shape: ModelShape, params: TrainingParams, devices: Devices, rows: int
) -> Stage:
    count = rows_of_a_pass(params, devices)
    need = memory.training(
        shape,
        devices,
        tokens=count * rows * params.max_length,
        precision=params.precision,
        checkpointing=params.gradient_checkpointing,
    )
    unit = "pairs" if rows == 2 else "rows"
    again = ", recomputed" if params.gradient_checkpointing else ""
    return Stage(name, shape, need, f"{count} {unit} x {params.max_length}{again}")


def _labelling(shape: ModelShape, params: RewardParams, devices: Devices) -> Stage:
    need = memory.scoring(
        shape, devices, tokens=params.score_tokens, precision=params.precision
    )
    return Stage("labelling", shape, need, f"{params.score_tokens} tokens")


def _ppo(
    policy: ModelShape, scorer: ModelShape, params: SftParams, devices: Devices
) -> Stage:
    rollouts = math.ceil(_PPO_BATCH / devices.count)
    need = memory.ppo(
        policy,
        scorer,
        devices,
        prompt=params.max_length,
        response=_PPO_RESPONSE,
        rollouts=rollouts,
        minibatch=_PPO_ROWS,
        precision=params.precision,
        checkpointing=params.gradient_checkpointing,
    )
    length = params.max_length + _PPO_RESPONSE
    return Stage("ppo", policy, need, f"{rollouts} rollouts x {length}")


def _steps(
    sft: SftParams, reward: RewardParams, work: Work, tuned: bool
) -> dict[str, int]:
    if not work.pairs:
        return {}
    labeled, pool = work.pairs["labeled_pairs"], work.pairs["unlabeled_pairs"]
    counted = {"seed": steps(reward, labeled)}
    # Two loops' selections share no pair, so the pool bounds them both together.
    counted["a loop, at most"] = steps(reward, labeled + pool)
    if tuned:
        rows = sft_rows(sft, work.pairs["sft_pairs"])
        counted = {"sft": steps(sft, rows), **counted}
    return counted
