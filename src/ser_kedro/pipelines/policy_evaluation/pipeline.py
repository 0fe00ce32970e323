"""``policy``, ``sft_model`` and prompts of the test pairs → ``policy_evaluation``."""

from kedro.pipeline import Pipeline, node, pipeline

from ser_kedro.pipelines.policy_evaluation.nodes import answer, evaluate_policy


def create_pipeline() -> Pipeline:
    """Return the pipeline ``policy_evaluation``."""
    return pipeline(
        [
            node(
                answer,
                inputs={
                    "policy": "policy",
                    "sft_model": "sft_model",
                    "test_pairs": "test_pairs",
                    "ppo": "params:ppo",
                    "policy_evaluation": "params:policy_evaluation",
                    "seed": "params:seed",
                    "launcher": "params:launcher",
                },
                outputs=["policy_answers", "sft_answers"],
                name="answer",
            ),
            node(
                evaluate_policy,
                inputs={
                    "policy_answers": "policy_answers",
                    "sft_answers": "sft_answers",
                    "gold_reward": "gold_reward",
                    "judge_credentials": "judge_credentials",
                    "policy_evaluation": "params:policy_evaluation",
                    "evaluation": "params:evaluation",
                },
                outputs="policy_evaluation",
                name="evaluate_policy",
            ),
        ],
        tags="policy_evaluation",
    )
