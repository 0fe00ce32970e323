"""``raw_preferences`` → ``arm_outcomes``; each draw makes a split of its own."""

from collections.abc import Callable
from typing import Any

from kedro.pipeline import Pipeline, node, pipeline

from ser_kedro.pipelines.ablations.nodes import (
    compare_arms,
    gather_settings,
    label_efficiency,
)

_SECTIONS = (
    "data_split",
    "model",
    "sft",
    "reward",
    "self_evolve",
    "evidence",
    "evaluation",
    "launcher",
)


def _pipeline(function: Callable[..., Any], subject: str) -> Pipeline:
    outputs = [f"{subject}_outcomes", f"{subject}_history"]
    gather = node(
        gather_settings,
        inputs={
            "raw_preferences": "raw_preferences",
            **{name: f"params:{name}" for name in _SECTIONS},
        },
        outputs="evidence_settings",
        name="gather_settings",
    )
    measure = node(
        function,
        inputs={"evidence_settings": "evidence_settings"},
        outputs=outputs,
        name=function.__name__,
    )
    return pipeline([gather, measure], tags="evidence")


def create_pipeline() -> Pipeline:
    """Return the pipeline ``evidence``."""
    return _pipeline(compare_arms, "arm")


def create_efficiency_pipeline() -> Pipeline:
    """Return the pipeline ``label_efficiency``."""
    return _pipeline(label_efficiency, "efficiency")
