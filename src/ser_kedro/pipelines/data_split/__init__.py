"""The pipeline ``data_split``."""

from ser_kedro.pipelines.data_split.pipeline import create_pipeline

__all__ = ["create_pipeline"]
