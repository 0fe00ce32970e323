"""The pipeline ``sft``."""

from ser_kedro.pipelines.sft.pipeline import create_pipeline

__all__ = ["create_pipeline"]
