"""Nodes of ``sft``."""

from __future__ import annotations

from ser_kedro.launch.executor import run
from ser_kedro.launch.params import LauncherParams
from ser_kedro.models.params import ModelParams
from ser_kedro.store.references import ModelRef, TableRef
from ser_kedro.training.params import SftParams
from ser_kedro.training.sft_job import SftJob


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
