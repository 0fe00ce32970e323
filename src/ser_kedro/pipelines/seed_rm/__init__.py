"""The pipeline ``seed_rm``."""

from ser_kedro.pipelines.seed_rm.pipeline import create_pipeline

__all__ = ["create_pipeline"]
