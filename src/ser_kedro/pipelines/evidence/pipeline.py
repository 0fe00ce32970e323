"""``raw_preferences`` → ``arm_outcomes``; each draw makes a split of its own."""

from collections.abc import Callable
from typing import Any

from kedro.pipeline import Pipeline, node, pipeline

from ser_kedro.pipelines.evidence.nodes import (
    compare_arms,
    gather_settings,
    label_efficiency,
)

_INPUTS = [
    "raw_preferences",
    "params:data_split",
    "params:model",
    "params:sft",
    "params:reward",
    "params:self_evolve",
    "params:evidence",
    "params:evaluation",
    "params:launcher",
]


def _pipeline(function: Callable[..., Any], subject: str) -> Pipeline:
    outputs = [f"{subject}_outcomes", f"{subject}_history"]
    gather = node(
        gather_settings,
        inputs=_INPUTS,
        outputs="evidence_settings",
        name="gather_settings",
    )
    measure = node(
        function, inputs="evidence_settings", outputs=outputs, name=function.__name__
    )
    return pipeline([gather, measure], tags="evidence")


def create_pipeline() -> Pipeline:
    """Return the pipeline ``evidence``."""
    return _pipeline(compare_arms, "arm")


def create_efficiency_pipeline() -> Pipeline:
    """Return the pipeline ``label_efficiency``."""
    return _pipeline(label_efficiency, "efficiency")
