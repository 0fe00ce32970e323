"""The pipeline ``ablations``, and ``label_efficiency`` beside it."""

from ser_kedro.pipelines.ablations.pipeline import (
    create_efficiency_pipeline,
    create_pipeline,
)

__all__ = ["create_efficiency_pipeline", "create_pipeline"]
