"""The pipeline ``acquisition``."""

from ser_kedro.pipelines.acquisition.pipeline import create_pipeline

__all__ = ["create_pipeline"]
