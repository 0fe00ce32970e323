"""Nodes of ``seed_rm``."""

from __future__ import annotations

from ser_kedro.launch.params import LauncherParams
from ser_kedro.self_evolution.params import EvolutionParams
from ser_kedro.self_evolution.voters import seed_model
from ser_kedro.store.references import ModelRef, TableRef
from ser_kedro.training.params import RewardParams


def train_seed(
    sft_model: ModelRef,
    labeled_pairs: TableRef,
    validation_pairs: TableRef,
    pool_pairs: TableRef,
    reward: RewardParams,
    self_evolve: EvolutionParams,
    seed: int,
    launcher: LauncherParams,
) -> ModelRef:
    """Train the reward model of loop 0 on the human labels; keep a ready one."""
    return seed_model(
        start=sft_model,
        labeled=labeled_pairs,
        validation=validation_pairs,
        params=reward,
        folds=self_evolve.folds,
        seed=seed,
        launcher=launcher,
        pool=pool_pairs,
    )
