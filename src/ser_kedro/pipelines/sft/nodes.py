"""Nodes of ``sft``."""

from __future__ import annotations

from ser_kedro.launch.params import LauncherParams
from ser_kedro.launch.reference import ModelRef, TableRef
from ser_kedro.launch.run import run
from ser_kedro.policy.sft import SftJob
from ser_kedro.reward.params import ModelParams, SftParams


def fine_tune(
    sft_pairs: TableRef,
    unlabeled_pairs: TableRef,
    model: ModelParams,
    sft: SftParams,
    seed: int,
    launcher: LauncherParams,
) -> ModelRef:
    """Fine-tune the language model that all later models start from."""
    job = SftJob(
        model=model,
        pairs=sft_pairs,
        pool=None if sft.pool == "none" else unlabeled_pairs,
        params=sft,
        seed=seed,
    )
    return run(job, launcher)["model"]
