"""Nodes of ``seed_rm``."""

from __future__ import annotations

from ser_kedro.launch.params import LauncherParams
from ser_kedro.launch.reference import HasReference, Reference, reference_of
from ser_kedro.reward import steps
from ser_kedro.reward.params import RewardParams


def train_seed(
    sft_model: HasReference,
    labeled_pairs: HasReference,
    validation_pairs: HasReference,
    reward: RewardParams,
    seed: int,
    launcher: LauncherParams,
) -> Reference:
    """Train the reward model of loop 0 on the human labels."""
    return steps.train_seed(
        sft_model=reference_of(sft_model),
        labeled_pairs=(reference_of(labeled_pairs),),
        validation_pairs=reference_of(validation_pairs),
        params=reward,
        seed=seed,
        launcher=launcher,
    )
