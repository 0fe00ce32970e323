"""``unlabeled_pairs`` or, answered by a model, ``pool_prompts`` → ``pool_pairs``."""

from kedro.pipeline import Node, Pipeline

from ser_kedro.pipelines.pool.nodes import fill_pool


def create_pipeline() -> Pipeline:
    """Return the pipeline ``pool``."""
    return Pipeline(
        [
            Node(
                fill_pool,
                inputs={
                    "unlabeled_pairs": "unlabeled_pairs",
                    "pool_prompts": "pool_prompts",
                    "sft_model": "sft_model",
                    "pool": "params:pool",
                    "seed": "params:seed",
                    "launcher": "params:launcher",
                },
                outputs={
                    "pool_pairs": "pool_pairs",
                    "pool_answers": "pool_answers",
                },
                name="fill_pool",
            )
        ],
        tags="pool",
    )
