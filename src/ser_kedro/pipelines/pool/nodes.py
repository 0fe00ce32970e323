"""Nodes of ``pool``."""

from __future__ import annotations

from ser_kedro.launch.params import LauncherParams
from ser_kedro.policy.filled_pool import FilledPool, filled
from ser_kedro.policy.pool_params import PoolParams
from ser_kedro.store.references import ModelRef, TableRef


def fill_pool(
    unlabeled_pairs: TableRef,
    pool_prompts: TableRef,
    sft_model: ModelRef,
    pool: PoolParams,
    seed: int,
    launcher: LauncherParams,
) -> FilledPool:
    """Take the pool's pairs as they are, or let a model answer its prompts."""
    return filled(unlabeled_pairs, pool_prompts, sft_model, pool, seed, launcher)
