"""Nodes of ``ppo``."""

from __future__ import annotations

from ser_kedro.launch.executor import run
from ser_kedro.launch.params import LauncherParams
from ser_kedro.policy.ppo_job import PpoJob, PpoOutputs
from ser_kedro.policy.ppo_params import PpoParams
from ser_kedro.preferences.demo_world.gold import GoldReward
from ser_kedro.store.references import ModelRef, TableRef
from ser_kedro.training.params import RewardParams


def train_policy(
    sft_model: ModelRef,
    reward_model: ModelRef,
    ppo_prompts: TableRef,
    gold_reward: GoldReward,
    ppo: PpoParams,
    reward: RewardParams,
    seed: int,
    launcher: LauncherParams,
) -> PpoOutputs:
    """Train the policy; on the demo world its gold reward is logged as well."""
    job = PpoJob(
        sft_model=sft_model,
        reward_model=reward_model,
        prompts=ppo_prompts,
        params=ppo,
        scoring=reward.scoring.whole,
        gold=gold_reward.world,
        seed=seed,
    )
    return run(job, launcher)
