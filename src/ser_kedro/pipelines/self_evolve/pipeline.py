"""The loop, unrolled: one ``evolve_step`` for each loop, chained by their states."""

from kedro.pipeline import Pipeline, node, pipeline

from ser_kedro.pipelines.self_evolve import nodes
from ser_kedro.pipelines.self_evolve.loops import (
    NAMESPACE,
    loop_dataset,
    loop_namespace,
    max_loops,
)

_SHARED = {
    "unlabeled_pairs",
    "labeled_pairs",
    "validation_pairs",
    "seed_reward_model",
    "sft_model",
}
_PARAMETERS = {
    "params:reward",
    "params:self_evolve",
    "params:seed",
    "params:launcher",
}


def evolve_step() -> Pipeline:
    """Return one loop: ``self_label → select → retrain → judge_progress``."""
    return pipeline(
        [
            node(
                nodes.self_label,
                inputs={
                    "unlabeled_pairs": "unlabeled_pairs",
                    "previous_model": "previous_model",
                    "previous_state": "previous_state",
                    "reward": "params:reward",
                    "launcher": "params:launcher",
                },
                outputs="scores",
                name="self_label",
            ),
            node(
                nodes.select,
                inputs={
                    "scores": "scores",
                    "unlabeled_pairs": "unlabeled_pairs",
                    "previous_model": "previous_model",
                    "previous_state": "previous_state",
                    "self_evolve": "params:self_evolve",
                    "launcher": "params:launcher",
                },
                outputs=["selection", "remaining"],
                name="select",
            ),
            node(
                nodes.retrain,
                inputs={
                    "selection": "selection",
                    "previous_model": "previous_model",
                    "seed_reward_model": "seed_reward_model",
                    "sft_model": "sft_model",
                    "labeled_pairs": "labeled_pairs",
                    "unlabeled_pairs": "unlabeled_pairs",
                    "validation_pairs": "validation_pairs",
                    "previous_state": "previous_state",
                    "self_evolve": "params:self_evolve",
                    "reward": "params:reward",
                    "seed": "params:seed",
                    "launcher": "params:launcher",
                },
                outputs="reward_model",
                name="retrain",
            ),
            node(
                nodes.judge_progress,
                inputs={
                    "reward_model": "reward_model",
                    "scores": "scores",
                    "selection": "selection",
                    "remaining": "remaining",
                    "previous_state": "previous_state",
                    "self_evolve": "params:self_evolve",
                },
                outputs="evolution_state",
                name="judge_progress",
            ),
        ]
    )


def _loop(loop: int) -> Pipeline:
    return pipeline(
        evolve_step(),
        namespace=loop_namespace(loop),
        inputs={
            **{name: name for name in _SHARED},
            "previous_model": loop_dataset(loop - 1, "reward_model"),
            "previous_state": loop_dataset(loop - 1, "evolution_state"),
        },
        parameters=_PARAMETERS,
    )


def create_pipeline() -> Pipeline:
    """Return the pipeline ``self_evolve`` with as many loops as the graph may have."""
    first = node(
        nodes.begin,
        inputs={
            "seed_reward_model": "seed_reward_model",
            "unlabeled_pairs": "unlabeled_pairs",
        },
        outputs=loop_dataset(0, "evolution_state"),
        name="begin",
        namespace=NAMESPACE,
    )
    last = node(
        nodes.finish,
        inputs={
            "last_state": loop_dataset(max_loops(), "evolution_state"),
            "sft_model": "sft_model",
            "labeled_pairs": "labeled_pairs",
            "unlabeled_pairs": "unlabeled_pairs",
            "validation_pairs": "validation_pairs",
            "self_evolve": "params:self_evolve",
            "reward": "params:reward",
            "seed": "params:seed",
            "launcher": "params:launcher",
        },
        outputs=["reward_model", "loop_history"],
        name="finish",
        namespace=NAMESPACE,
    )
    loops = sum(map(_loop, range(1, max_loops() + 1)), start=pipeline([]))
    return pipeline([first, loops, last], tags=NAMESPACE)
