"""The pipeline ``pool``."""

from ser_kedro.pipelines.pool.pipeline import create_pipeline

__all__ = ["create_pipeline"]
