"""The stages of a run, and what each needs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ser_kedro.models.params import ModelParams
from ser_kedro.models.scratch import scratch_config
from ser_kedro.models.source import kind_of, load_config, start_of
from ser_kedro.models.starting_point import StartingPoint
from ser_kedro.planning import memory
from ser_kedro.planning.devices import Devices
from ser_kedro.planning.memory import Memory
from ser_kedro.planning.shape import ModelShape, shape_of
from ser_kedro.planning.times import Times, measure
from ser_kedro.planning.work import Disk, Work, disk, sft_rows, steps
from ser_kedro.policy.ppo_params import PpoParams
from ser_kedro.training.micro_batches import (
    BACKWARD,
    MOST,
    largest_pass,
    room_of_a_pass,
)
from ser_kedro.training.params import RewardParams, SftParams, TrainingParams


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
        start: What SFT does with it.
        mode: How weights are held: ``fp32``, ``autocast`` or ``bf16``.
        stages: In the order of the run.
        steps: Optimiser steps, by training; empty where the data are not there.
        disk: Bytes that the store will take.
        loops: Loops at most.
        folds: With trainings of their own.
        work: What is known of the data and the store.
        times: How long it takes; ``None`` where that was not tried.
    """

    model: str
    devices: Devices
    start: StartingPoint
    mode: str
    stages: tuple[Stage, ...]
    steps: dict[str, int]
    disk: Disk
    loops: int
    folds: int
    work: Work
    times: Times | None = None


def make_plan(
    model: ModelParams,
    sft: SftParams,
    reward: RewardParams,
    ppo: PpoParams,
    devices: Devices,
    *,
    loops: int,
    work: Work,
    patience: int = 1,
    folds: int = 0,
    views: bool = False,
    here: bool = False,
) -> Plan:
    """Plan a run from its parameters; no weight is read.

    Args:
        model: Which model.
        sft: Settings of SFT.
        reward: Settings of the reward model.
        ppo: Settings of the policy.
        devices: What to run on.
        loops: Loops at most.
        work: What is known of the data.
        patience: Loops without gain that end the run.
        folds: Of the human labels, each with trainings of its own; 0: none.
        views: A committee reads every text, of the frozen start model.
        here: The devices are this machine's, so that it can be tried how long the
            stages take; that needs the data, split.

    Raises:
        ModelError: If the configuration cannot be had, or ``sft.when`` asks for what
            cannot be.
    """
    config = config_of(model, max(sft.max_length, reward.max_length))
    scorer = first = shape_of(config, "SEQ_CLS", reward.lora)
    kind = kind_of(model, config)
    start = start_of(model, kind, sft.when)
    if kind == "language_model":
        first = shape_of(config, "CAUSAL_LM", sft.lora)
    stages = []
    if start.trained:
        stages.append(_sft(first, sft, devices))
    stages += _reward_stages(config, scorer, reward, devices)
    if kind == "language_model":
        policy = shape_of(config, "CAUSAL_LM", ppo.lora)
        stages.append(_ppo(policy, scorer, ppo, devices))
    times = None
    if here and work.sample is not None:
        trained = sft if start.trained else None
        times = measure(
            config,
            model,
            trained,
            reward,
            ppo if kind == "language_model" else None,
            loops=loops,
            patience=patience,
            folds=folds,
            views=views,
            work=work,
        )
    mode = memory.mode_of(devices, reward.precision)
    return Plan(
        model=model.name,
        devices=devices,
        start=start,
        mode=mode,
        stages=tuple(stages),
        steps=_steps(sft, reward, work, start.trained),
        disk=disk(
            first,
            scorer,
            tuned=start.trained,
            heads=reward.trainable == "head",
            loops=loops,
            folds=folds,
            bf16=mode == "bf16",
            work=work,
        ),
        loops=loops,
        folds=folds,
        work=work,
        times=times,
    )


def _reward_stages(
    config: Any, scorer: ModelShape, reward: RewardParams, devices: Devices
) -> Iterator[Stage]:
    if reward.trainable != "head":  # a head alone needs what labelling needs
        trained = scorer
        if reward.lm_weight:  # its training has logits too
            trained = shape_of(config, "CAUSAL_LM", reward.lora)
        yield _reward_training(trained, reward, devices)
    yield _labelling(scorer, reward, devices)


def config_of(model: ModelParams, max_length: int) -> Any:
    """Return a model's configuration: made, from its folder, the hub or the cache.

    Raises:
        ModelError: If it cannot be had.
    """
    if model.scratch is not None:
        return scratch_config(
            model.scratch, model.scratch.vocab_size, max_length, pad_token_id=0
        )
    return load_config(model)


def sft_rows_of_a_pass(params: SftParams, devices: Devices, shape: ModelShape) -> int:
    """Return the rows of a device's forward pass in SFT."""
    share = math.ceil(params.batch_size / devices.count)
    fit = _tokens_that_fit(shape, params, devices) // params.max_length
    return min(params.micro_batch_size or max(1, fit), share)


def reward_tokens_of_a_pass(
    params: RewardParams, devices: Devices, shape: ModelShape
) -> int:
    """Return the tokens of a device's forward pass in reward training, at most.

    The budget cuts what a device has of a step; a longer pair stands alone.
    """
    pair = 2 * params.max_length
    share = math.ceil(params.batch_size / devices.count) * pair
    most = params.max_tokens_per_microbatch
    if most == "auto":
        most = _tokens_that_fit(shape, params, devices)
    return min(max(most, pair), share)


def _tokens_that_fit(
    shape: ModelShape, params: TrainingParams, devices: Devices
) -> int:
    """Return what a training finds out by measuring, as far as arithmetic can tell."""
    if devices.memory_bytes is None:
        return MOST
    tokens = 1000
    need = _need(shape, params, devices, tokens)
    states = need.weights + need.gradients + need.optimizer
    room = room_of_a_pass(devices.memory_bytes, states, gpu=devices.bf16)
    return largest_pass(room, BACKWARD * need.activations / tokens)


def _need(
    shape: ModelShape, params: TrainingParams, devices: Devices, tokens: int
) -> Memory:
    return memory.training(
        shape,
        devices,
        tokens=tokens,
        precision=params.precision,
        checkpointing=params.gradient_checkpointing,
    )


def _sft(shape: ModelShape, params: SftParams, devices: Devices) -> Stage:
    rows = sft_rows_of_a_pass(params, devices, shape)
    batch = f"{rows} rows x {params.max_length}"
    return _training("sft", shape, params, devices, rows * params.max_length, batch)


def _reward_training(
    shape: ModelShape, params: RewardParams, devices: Devices
) -> Stage:
    tokens = reward_tokens_of_a_pass(params, devices, shape)
    batch = f"{tokens} tokens"
    return _training("reward training", shape, params, devices, tokens, batch)


def _training(
    name: str,
    shape: ModelShape,
    params: TrainingParams,
    devices: Devices,
    tokens: int,
    batch: str,
) -> Stage:
    need = _need(shape, params, devices, tokens)
    again = ", recomputed" if params.gradient_checkpointing else ""
    return Stage(name, shape, need, batch + again)


def _labelling(shape: ModelShape, params: RewardParams, devices: Devices) -> Stage:
    need = memory.scoring(
        shape,
        devices,
        tokens=params.score_tokens,
        precision=params.precision,
    )
    return Stage("labelling", shape, need, f"{params.score_tokens} tokens")


def _ppo(
    policy: ModelShape, scorer: ModelShape, params: PpoParams, devices: Devices
) -> Stage:
    rollouts = math.ceil(params.batch_size / devices.count)
    rows = math.ceil(params.mini_batch_size / devices.count)
    need = memory.ppo(
        policy,
        scorer,
        devices,
        prompt=params.max_prompt_length,
        response=params.max_new_tokens,
        rollouts=min(params.rollout_batch_size or rollouts, rollouts),
        minibatch=min(params.micro_batch_size or rows, rows),
        precision=params.precision,
        checkpointing=params.gradient_checkpointing,
    )
    length = params.max_prompt_length + params.max_new_tokens
    return Stage("ppo", policy, need, f"{rollouts} rollouts x {length}")


def _steps(
    sft: SftParams, reward: RewardParams, work: Work, tuned: bool
) -> dict[str, int]:
    if not work.pairs:
        return {}
    labeled, pool = work.pairs["labeled_pairs"], work.pairs["unlabeled_pairs"]
    beside = 0 if reward.lm_pool == "none" else pool
    counted = {"seed": steps(reward, labeled + beside)}
    if reward.pretrain != "none":
        first = reward.model_copy(update={"epochs": reward.pretrain_epochs})
        counted = {"pretraining": steps(first, 2 * pool), **counted}
    # Two loops' selections share no pair, so the pool bounds them both together.
    counted["a loop, at most"] = steps(reward, labeled + pool + beside)
    if tuned:
        rows = sft_rows(sft, work.pairs["sft_pairs"])
        counted = {"sft": steps(sft, rows), **counted}
    return counted
