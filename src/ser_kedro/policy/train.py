"""Train a policy against a reward model, and keep the best and the last of it."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from ser_kedro.launch.rank import is_main
from ser_kedro.models.calibration import CALIBRATION, Calibration
from ser_kedro.models.encode import Encoder, Messages
from ser_kedro.models.load_scorer import load_scorer
from ser_kedro.models.params import Scoring
from ser_kedro.models.reward_model import check_window, from_pretrained
from ser_kedro.policy.actor_critic import ActorCritic
from ser_kedro.policy.ppo import Ppo, RewardFunction
from ser_kedro.policy.ppo_checkpoint import WEIGHTS, Folder, HeldOut, Progress
from ser_kedro.policy.ppo_params import PpoParams
from ser_kedro.policy.rloo import Rloo
from ser_kedro.preferences.demo_world.world import WorldParams, gold_rewards
from ser_kedro.preferences.schema import PROMPT, Message
from ser_kedro.store.references import TableRef
from ser_kedro.store.tables import read_table, write_table

logger = logging.getLogger(__name__)

_RUN = "ppo"
# Empty where a figure was not measured at that step.
HISTORY = pa.schema(
    [
        ("step", pa.int64()),
        *(
            (name, pa.float64())
            for name in (
                "reward",
                "raw_reward",
                "reward_deviation",
                "gold_reward",
                "kl",
                "kl_coefficient",
                "entropy",
                "policy_loss",
                "value_loss",
                "ratio",
                "clip_fraction",
                "update_kl",
                "grad_norm",
                "updates",
                "explained_variance",
                "length",
                "eos_share",
                "empty_answers",
                "equal_answers",
                "held_out_reward",
                "held_out_gold",
                "held_out_kl",
            )
        ),
    ]
)
SAMPLES = pa.schema(
    [
        ("prompt", PROMPT),
        ("before", pa.string()),
        ("after", pa.string()),
        ("reward_before", pa.float64()),
        ("reward_after", pa.float64()),
    ]
)


@dataclass(frozen=True)
class Trained:
    """What a training has left in its workspace.

    Attributes:
        best: What was measured of the best policy, in the folder ``policy``.
        last: The same of the last one, in ``last_policy``.
        history: A row a step.
        samples: Answers to held-out prompts before and after.
    """

    best: dict[str, float]
    last: dict[str, float]
    history: TableRef
    samples: TableRef


def train_policy(
    sft_model: Path,
    reward_model: Path,
    prompts: TableRef,
    params: PpoParams,
    scoring: Scoring,
    gold: WorldParams | None,
    seed: int,
    workspace: Path,
) -> Trained | None:
    """Train a policy; begun work in the workspace is resumed.

    Args:
        sft_model: Folder of the language model to start from.
        reward_model: Folder of the model to maximise.
        prompts: As of ``PpoJob``.
        params: As there.
        scoring: As there.
        gold: As there.
        seed: As there.
        workspace: A folder of this training alone, which all ranks share.

    Returns:
        What was made; ``None`` in a rank that is not the first.

    Raises:
        PolicyError: If the training diverges.
    """
    dialogues = read_table(prompts)["prompt"].to_pylist()
    run = _begin(
        sft_model, reward_model, dialogues, params, scoring, gold, seed, workspace
    )
    progress = run.run()
    if not is_main():
        return None
    folder = Folder(workspace / _RUN, 0)
    last = folder.path / f"checkpoint-{progress.step}" / WEIGHTS
    best, kept = last, progress.last
    if progress.best is not None:
        best, kept = folder.best(progress.best.step), progress.best
    _save(best, sft_model, params, workspace / "policy")
    _save(last, sft_model, params, workspace / "last_policy")
    batch = pa.RecordBatch.from_pylist(progress.history, HISTORY)
    held_out = [dialogues[place] for place in run.held_out]
    rows = list(_samples(held_out, progress.before, kept))
    sampled = pa.RecordBatch.from_pylist(rows, SAMPLES)
    metrics = {
        "steps": progress.step,
        "prompts": len(run.training),
        "held_out_prompts": len(run.held_out),
        "cut_prompts": run.cut_prompts,
        "empty_answers": _total(progress, "empty_answers"),
        "batches_of_equal_answers": _total(progress, "equal_answers"),
    }
    trained = Trained(
        best={**metrics, **_figures(kept)},
        last={**metrics, **_figures(progress.last)},
        history=write_table(workspace, "history", [batch], HISTORY),
        samples=write_table(workspace, "samples", [sampled], SAMPLES),
    )
    shutil.rmtree(workspace / _RUN)
    return trained


def _begin(
    sft_model: Path,
    reward_model: Path,
    dialogues: list[Messages],
    params: PpoParams,
    scoring: Scoring,
    gold: WorldParams | None,
    seed: int,
    workspace: Path,
) -> Ppo:
    torch.manual_seed(seed)  # the same new adapters in every process
    actor = ActorCritic.load(sft_model, params)
    length = params.max_prompt_length + params.max_new_tokens
    check_window(actor.causal.config, length, "ppo")
    tokenizer = from_pretrained(AutoTokenizer, sft_model)
    calibrated = (reward_model / CALIBRATION).is_file()
    algorithm = Rloo if params.algorithm == "rloo" else Ppo
    run = algorithm(
        actor,
        Encoder(tokenizer, length),
        dialogues,
        load_scorer(reward_model, scoring).text_rewards,
        params,
        folder=workspace / _RUN,
        seed=seed,
        calibration=Calibration.load(reward_model) if calibrated else None,
        gold=None if gold is None else gold_of(gold),
    )
    logger.info(
        "%s: %d steps of %d answers to %d prompts; ranks: %d",
        params.algorithm,
        run.steps,
        params.batch_size,
        len(run.training),
        run.processes,
    )
    if run.cut_prompts:
        logger.warning(
            "ppo: %d of %d prompts above max_prompt_length=%d, cut on the left",
            run.cut_prompts,
            len(dialogues),
            params.max_prompt_length,
        )
    return run


def _save(weights: Path, start: Path, params: PpoParams, folder: Path) -> None:
    """Merge trained weights into a fresh copy of the start, and save that.

    A fresh one, since adding and taking away adapters rounds the weights.
    """
    actor = ActorCritic.load(start, params, reference=False)
    actor.load_trainable(load_file(weights))
    actor.merged().save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(start)  # a folder  # nosec B615
    tokenizer.save_pretrained(folder)


def gold_of(world: WorldParams) -> RewardFunction:
    """Return the demo world's gold reward as a function over dialogues and texts."""

    def gold(prompts: Sequence[Messages], responses: Sequence[str]) -> list[float]:
        turns = [[Message(**turn) for turn in prompt] for prompt in prompts]
        rewards: list[float] = gold_rewards(world, turns, responses).tolist()
        return rewards

    return gold


def _samples(
    prompts: list[Messages], before: HeldOut | None, after: HeldOut | None
) -> Iterator[dict[str, Any]]:
    if before is None or after is None:
        return
    columns = (prompts, before.texts, after.texts, before.rewards, after.rewards)
    for row in zip(*columns, strict=True):
        yield dict(zip(SAMPLES.names, row, strict=True))


def _figures(held_out: HeldOut | None) -> dict[str, Any]:
    if held_out is None:
        return {}
    return {
        "step": held_out.step,
        "held_out_reward": held_out.reward,
        "held_out_gold": held_out.gold,
        "held_out_kl": held_out.kl,
    }


def _total(progress: Progress, name: str) -> int:
    return int(sum(row.get(name, 0) for row in progress.history))
