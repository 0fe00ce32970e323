"""``results``: the page of what the ablations of this environment gave."""

from ser_kedro.pipelines.results.pipeline import create_pipeline

__all__ = ["create_pipeline"]
