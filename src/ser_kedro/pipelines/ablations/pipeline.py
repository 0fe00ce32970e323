"""``raw_preferences`` → comparisons of methods and policies, each seed from scratch."""

from kedro.pipeline import Node, Pipeline

from ser_kedro.pipelines.ablations.nodes import (
    compare_methods,
    compare_policies,
    gather_settings,
    label_efficiency,
)

_SECTIONS = (
    "data_split",
    "model",
    "sft",
    "pool",
    "reward",
    "self_evolve",
    "ablations",
    "evaluation",
    "launcher",
)


def create_pipeline() -> Pipeline:
    """Return the pipeline ``ablations``: every method with every seed."""
    return _with_settings(
        Node(
            compare_methods,
            inputs={"ablation_settings": "ablation_settings"},
            outputs=["ablation_outcomes", "ablation_history"],
            name="compare_methods",
        )
    )


def create_efficiency_pipeline() -> Pipeline:
    """Return the pipeline ``label_efficiency``: seed and SER by share of labels."""
    return _with_settings(
        Node(
            label_efficiency,
            inputs={"ablation_settings": "ablation_settings"},
            outputs=["efficiency_outcomes", "efficiency_history"],
            name="label_efficiency",
        )
    )


def create_policy_pipeline() -> Pipeline:
    """Return the pipeline ``policy_comparison``: PPO against three reward models."""
    sections = ("ppo", "policy_evaluation", "policy_comparison")
    return _with_settings(
        Node(
            compare_policies,
            inputs={
                "ablation_settings": "ablation_settings",
                **{name: f"params:{name}" for name in sections},
            },
            outputs=["policy_comparison", "policy_page", "policy_figures"],
            name="compare_policies",
        )
    )


def _with_settings(compare: Node) -> Pipeline:
    gather = Node(
        gather_settings,
        inputs={
            "raw_preferences": "raw_preferences",
            **{name: f"params:{name}" for name in _SECTIONS},
        },
        outputs="ablation_settings",
        name="gather_settings",
    )
    return Pipeline([gather, compare], tags="ablations")
