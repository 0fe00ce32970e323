"""The loop, unrolled: one ``evolve_step`` for each loop, chained by their states."""

from kedro.pipeline import Node, Pipeline

from ser_kedro.pipelines.self_evolve import nodes
from ser_kedro.pipelines.self_evolve.loops import (
    NAMESPACE,
    loop_dataset,
    loop_namespace,
    max_loops,
)

_PARAMETERS = {
    "self_evolve": "params:self_evolve",
    "reward": "params:reward",
    "seed": "params:seed",
    "launcher": "params:launcher",
}


def evolve_step() -> Pipeline:
    """Return one loop: ``self_label → select → retrain → judge_progress``."""
    given = {"previous_state": "previous_state", **_PARAMETERS}
    return Pipeline(
        [
            Node(nodes.self_label, inputs=given, outputs="scores", name="self_label"),
            Node(
                nodes.select,
                inputs={"scores": "scores", **given},
                outputs=["selection", "remaining"],
                name="select",
            ),
            Node(
                nodes.retrain,
                inputs={"selection": "selection", **given},
                outputs="reward_model",
                name="retrain",
            ),
            Node(
                nodes.judge_progress,
                inputs={
                    "reward_model": "reward_model",
                    "scores": "scores",
                    "selection": "selection",
                    "remaining": "remaining",
                    **given,
                },
                outputs="evolution_state",
                name="judge_progress",
            ),
        ]
    )


def _loop(loop: int) -> Pipeline:
    return Pipeline(
        evolve_step(),
        namespace=loop_namespace(loop),
        inputs={"previous_state": loop_dataset(loop - 1, "evolution_state")},
        parameters=set(_PARAMETERS.values()),
    )


def create_pipeline() -> Pipeline:
    """Return the pipeline ``self_evolve`` with as many loops as the graph may have."""
    first = Node(
        nodes.begin,
        inputs={
            "seed_reward_model": "seed_reward_model",
            "sft_model": "sft_model",
            "labeled_pairs": "labeled_pairs",
            "validation_pairs": "validation_pairs",
            "pool_pairs": "pool_pairs",
        },
        outputs=loop_dataset(0, "evolution_state"),
        name="begin",
        namespace=NAMESPACE,
    )
    last = Node(
        nodes.finish,
        inputs={
            "last_state": loop_dataset(max_loops(), "evolution_state"),
            **_PARAMETERS,
        },
        outputs=["reward_model", "loop_history"],
        name="finish",
        namespace=NAMESPACE,
    )
    loops = sum(map(_loop, range(1, max_loops() + 1)), start=Pipeline([]))
    return Pipeline([first, loops, last], tags=NAMESPACE)
