"""All data → ``template_report``; ``sft_pairs`` → ``sft_model``."""

from kedro.pipeline import Pipeline, node, pipeline

from ser_kedro.pipelines.sft.nodes import check_rendering, fine_tune

PARTS = (
    "sft_pairs",
    "labeled_pairs",
    "validation_pairs",
    "unlabeled_pairs",
    "pool_prompts",
    "test_pairs",
    "ppo_prompts",
)


def create_pipeline() -> Pipeline:
    """Return the pipeline ``sft``."""
    return pipeline(
        [
            node(
                check_rendering,
                inputs={
                    **{part: part for part in PARTS},
                    "model": "params:model",
                    "launcher": "params:launcher",
                },
                outputs="template_report",
                name="check_rendering",
            ),
            node(
                fine_tune,
                inputs={
                    "sft_pairs": "sft_pairs",
                    "unlabeled_pairs": "unlabeled_pairs",
                    "template_report": "template_report",
                    "model": "params:model",
                    "sft": "params:sft",
                    "seed": "params:seed",
                    "launcher": "params:launcher",
                },
                outputs="sft_model",
                name="fine_tune",
            ),
        ],
        tags="sft",
    )
