"""The pipeline ``policy_evaluation``."""

from ser_kedro.pipelines.policy_evaluation.pipeline import create_pipeline

__all__ = ["create_pipeline"]
