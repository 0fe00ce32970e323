"""``raw_preferences`` → the parts that training, the loop and evaluation read."""

from kedro.pipeline import Pipeline, node, pipeline

from ser_kedro.pipelines.data_split.nodes import split

PARTS = (
    "sft_pairs",
    "labeled_pairs",
    "validation_pairs",
    "unlabeled_pairs",
    "pool_prompts",
    "audit_labels",
    "test_pairs",
    "ppo_prompts",
    "data_report",
    "gold_reward",
)


def create_pipeline() -> Pipeline:
    """Return the pipeline ``data_split``."""
    return pipeline(
        [
            node(
                split,
                inputs={
                    "raw_preferences": "raw_preferences",
                    "data_split": "params:data_split",
                    "seed": "params:seed",
                    "launcher": "params:launcher",
                },
                outputs={part: part for part in PARTS},
                name="split",
                tags="reads_data",
            )
        ],
        tags="data_split",
    )
