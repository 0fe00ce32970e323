"""Nodes of ``sft``."""

from __future__ import annotations

from typing import Any

from ser_kedro.launch.executor import run
from ser_kedro.launch.params import LauncherParams
from ser_kedro.models import rendering
from ser_kedro.models.params import ModelParams
from ser_kedro.store.references import ModelRef, TableRef
from ser_kedro.training.params import SftParams
from ser_kedro.training.sft_job import SftJob


def check_rendering(
    sft_pairs: TableRef,
    labeled_pairs: TableRef,
    validation_pairs: TableRef,
    unlabeled_pairs: TableRef,
    pool_prompts: TableRef,
    test_pairs: TableRef,
    ppo_prompts: TableRef,
    model: ModelParams,
    launcher: LauncherParams,
) -> dict[str, Any]:
    """Render all data by the model's template; refuse what it cannot render."""
    parts = {
        "sft_pairs": sft_pairs,
        "labeled_pairs": labeled_pairs,
        "validation_pairs": validation_pairs,
        "unlabeled_pairs": unlabeled_pairs,
        "pool_prompts": pool_prompts,
        "test_pairs": test_pairs,
        "ppo_prompts": ppo_prompts,
    }
    return rendering.check_rendering(parts, sft_pairs, model, launcher)


def fine_tune(
    sft_pairs: TableRef,
    unlabeled_pairs: TableRef,
    template_report: dict[str, Any],
    model: ModelParams,
    sft: SftParams,
    seed: int,
    launcher: LauncherParams,
) -> ModelRef:
    """Fine-tune the language model that all later models start from.

    The report is read by nobody here: it has to be there before training starts.
    """
    job = SftJob(
        model=model,
        pairs=sft_pairs,
        pool=None if sft.pool == "none" else unlabeled_pairs,
        params=sft,
        seed=seed,
    )
    return run(job, launcher)["model"]
