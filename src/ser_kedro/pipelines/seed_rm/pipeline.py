"""``labeled_pairs`` → ``seed_reward_model``."""

from kedro.pipeline import Pipeline, node, pipeline

from ser_kedro.pipelines.seed_rm.nodes import train_seed


def create_pipeline() -> Pipeline:
    """Return the pipeline ``seed_rm``."""
    return pipeline(
        [
            node(
                train_seed,
                inputs={
                    "sft_model": "sft_model",
                    "labeled_pairs": "labeled_pairs",
                    "validation_pairs": "validation_pairs",
                    "pool_pairs": "pool_pairs",
                    "reward": "params:reward",
                    "self_evolve": "params:self_evolve",
                    "seed": "params:seed",
                    "launcher": "params:launcher",
                },
                outputs="seed_reward_model",
                name="train_seed",
            )
        ],
        tags="seed_rm",
    )
