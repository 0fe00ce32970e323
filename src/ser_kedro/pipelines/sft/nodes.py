"""Nodes of ``sft``."""

from __future__ import annotations

from ser_kedro.launch.params import LauncherParams
from ser_kedro.launch.reference import HasReference, Reference, reference_of
from ser_kedro.launch.run import run
from ser_kedro.policy.sft import SftJob
from ser_kedro.reward.params import ModelParams, SftParams


def fine_tune(
    sft_pairs: HasReference,
    unlabeled_pairs: HasReference,
    model: ModelParams,
    sft: SftParams,
    seed: int,
    launcher: LauncherParams,
) -> Reference:
    """Fine-tune the language model that all later models start from."""
    job = SftJob(
        model=model,
        pairs=reference_of(sft_pairs),
        pool=None if sft.pool == "none" else reference_of(unlabeled_pairs),
        params=sft,
        seed=seed,
    )
    return run(job, launcher)["model"]
