"""The pipelines ``ablations``, ``label_efficiency`` and ``policy_comparison``."""

from ser_kedro.pipelines.ablations.pipeline import (
    create_efficiency_pipeline,
    create_pipeline,
    create_policy_pipeline,
)

__all__ = ["create_efficiency_pipeline", "create_pipeline", "create_policy_pipeline"]
