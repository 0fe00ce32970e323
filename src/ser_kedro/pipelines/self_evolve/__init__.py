"""The pipeline ``self_evolve``."""

from ser_kedro.pipelines.self_evolve.pipeline import create_pipeline

__all__ = ["create_pipeline"]
