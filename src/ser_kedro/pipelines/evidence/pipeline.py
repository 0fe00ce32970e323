"""``raw_preferences`` → ``arm_outcomes``; each draw makes a split of its own."""

from collections.abc import Callable
from typing import Any

from kedro.pipeline import Pipeline, node, pipeline

from ser_kedro.pipelines.evidence.nodes import compare_arms, label_efficiency

_INPUTS = [
    "raw_preferences",
    "params:data_split",
    "params:model",
    "params:sft",
    "params:reward",
    "params:self_evolve",
    "params:evidence",
    "params:launcher",
]


def _one_node(function: Callable[..., Any], subject: str) -> Pipeline:
    outputs = [f"{subject}_outcomes", f"{subject}_history"]
    made = node(function, inputs=_INPUTS, outputs=outputs, name=function.__name__)
    return pipeline([made], tags="evidence")


def create_pipeline() -> Pipeline:
    """Return the pipeline ``evidence``."""
    return _one_node(compare_arms, "arm")


def create_efficiency_pipeline() -> Pipeline:
    """Return the pipeline ``label_efficiency``."""
    return _one_node(label_efficiency, "efficiency")
