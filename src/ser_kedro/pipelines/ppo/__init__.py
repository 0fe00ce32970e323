"""The pipeline ``ppo``."""

from ser_kedro.pipelines.ppo.pipeline import create_pipeline

__all__ = ["create_pipeline"]
