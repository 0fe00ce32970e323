"""``policy``, ``sft_model`` and prompts of the test pairs → ``policy_evaluation``."""

from kedro.pipeline import Pipeline, node, pipeline

from ser_kedro.pipelines.policy_evaluation.nodes import answer, evaluate_policy


def create_pipeline() -> Pipeline:
    """Return the pipeline ``policy_evaluation``."""
    return pipeline(
        [
            node(
                answer,
                inputs=[
                    "policy",
                    "sft_model",
                    "test_pairs",
                    "params:ppo",
                    "params:policy_evaluation",
                    "params:seed",
                    "params:launcher",
                ],
                outputs=["policy_answers", "sft_answers"],
                name="answer",
            ),
            node(
                evaluate_policy,
                inputs=[
                    "policy_answers",
                    "sft_answers",
                    "raw_preferences",
                    "judge_credentials",
                    "params:policy_evaluation",
                    "params:evaluation",
                ],
                outputs="policy_evaluation",
                name="evaluate_policy",
            ),
        ],
        tags="policy_evaluation",
    )
