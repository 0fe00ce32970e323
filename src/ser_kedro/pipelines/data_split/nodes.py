"""Nodes of ``data_split``."""

from __future__ import annotations

from typing import Any

from ser_kedro.launch.executor import run
from ser_kedro.launch.params import LauncherParams
from ser_kedro.preferences.demo_world.gold import GoldReward
from ser_kedro.preferences.source import PreferenceSource
from ser_kedro.preferences.split import SplitParams
from ser_kedro.preferences.split_job import SplitJob


def split(
    raw_preferences: PreferenceSource,
    data_split: SplitParams,
    seed: int,
    launcher: LauncherParams,
) -> dict[str, Any]:
    """Read, check and split the preferences; report what was dropped and why."""
    job = SplitJob(source=raw_preferences, params=data_split, seed=seed)
    outputs = run(job, launcher)
    return {
        **outputs,
        "data_report": outputs["data_report"].read(),
        "gold_reward": GoldReward(world=raw_preferences.known_world),
    }
