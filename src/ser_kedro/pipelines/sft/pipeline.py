"""``sft_pairs`` → ``sft_model``."""

from kedro.pipeline import Pipeline, node, pipeline

from ser_kedro.pipelines.sft.nodes import fine_tune


def create_pipeline() -> Pipeline:
    """Return the pipeline ``sft``."""
    return pipeline(
        [
            node(
                fine_tune,
                inputs=[
                    "sft_pairs",
                    "unlabeled_pairs",
                    "params:model",
                    "params:sft",
                    "params:seed",
                    "params:launcher",
                ],
                outputs="sft_model",
                name="fine_tune",
            )
        ],
        tags="sft",
    )
