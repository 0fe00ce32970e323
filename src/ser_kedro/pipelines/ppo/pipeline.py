"""``sft_model``, ``reward_model``, ``ppo_prompts`` → ``policy`` and its history."""

from kedro.pipeline import Pipeline, node, pipeline

from ser_kedro.pipelines.ppo.nodes import train_policy


def create_pipeline() -> Pipeline:
    """Return the pipeline ``ppo``."""
    return pipeline(
        [
            node(
                train_policy,
                inputs={
                    "sft_model": "sft_model",
                    "reward_model": "reward_model",
                    "ppo_prompts": "ppo_prompts",
                    "gold_reward": "gold_reward",
                    "ppo": "params:ppo",
                    "reward": "params:reward",
                    "seed": "params:seed",
                    "launcher": "params:launcher",
                },
                outputs={
                    "policy": "policy",
                    "last_policy": "last_policy",
                    "history": "ppo_history",
                    "samples": "policy_samples",
                },
                name="train_policy",
            )
        ],
        tags="ppo",
    )
