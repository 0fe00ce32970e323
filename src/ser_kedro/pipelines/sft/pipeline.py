"""``sft_pairs`` → ``sft_model``."""

from kedro.pipeline import Pipeline, node, pipeline

from ser_kedro.pipelines.sft.nodes import fine_tune


def create_pipeline() -> Pipeline:
    """Return the pipeline ``sft``."""
    return pipeline(
        [
            node(
                fine_tune,
                inputs={
                    "sft_pairs": "sft_pairs",
                    "unlabeled_pairs": "unlabeled_pairs",
                    "model": "params:model",
                    "sft": "params:sft",
                    "seed": "params:seed",
                    "launcher": "params:launcher",
                },
                outputs="sft_model",
                name="fine_tune",
            )
        ],
        tags="sft",
    )
