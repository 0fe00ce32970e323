"""Nodes of ``acquisition``."""

from __future__ import annotations

from ser_kedro.acquisition import requests
from ser_kedro.acquisition.params import AcquisitionParams
from ser_kedro.launch.params import LauncherParams
from ser_kedro.store.references import ModelRef, TableRef
from ser_kedro.training.params import RewardParams


def request_labels(
    pool_pairs: TableRef,
    labeled_pairs: TableRef,
    validation_pairs: TableRef,
    reward_model: ModelRef,
    acquisition: AcquisitionParams,
    reward: RewardParams,
    seed: int,
    launcher: LauncherParams,
) -> TableRef:
    """Choose the pairs of the pool that people should label next."""
    return requests.label_requests(
        pool_pairs,
        reward_model,
        acquisition,
        reward.scoring,
        seed,
        launcher,
        labelled=(labeled_pairs, validation_pairs),
    )
