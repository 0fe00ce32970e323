"""Nodes of ``policy_evaluation``."""

from __future__ import annotations

from typing import Any

from ser_kedro.evaluation.params import EvaluationParams
from ser_kedro.launch.executor import run
from ser_kedro.launch.params import LauncherParams
from ser_kedro.policy.answers_job import AnswersJob
from ser_kedro.policy.ppo_params import PpoParams
from ser_kedro.policy_evaluation.params import PolicyEvaluationParams
from ser_kedro.preferences.demo_world.gold import GoldReward
from ser_kedro.store.references import ModelRef, TableRef


def answer(
    policy: ModelRef,
    sft_model: ModelRef,
    test_pairs: TableRef,
    ppo: PpoParams,
    policy_evaluation: PolicyEvaluationParams,
    seed: int,
    launcher: LauncherParams,
) -> tuple[TableRef, TableRef]:
    """Let the policy and its start answer prompts of the test pairs."""
    policy_answers, sft_answers = (
        run(
            AnswersJob(
                model=model,
                start=sft_model,
                prompts=test_pairs,
                count=policy_evaluation.prompts,
                batch_size=policy_evaluation.batch_size,
                params=ppo,
                seed=seed,
            ),
            launcher,
        )["answers"]
        for model in (policy, sft_model)
    )
    return policy_answers, sft_answers


def evaluate_policy(
    policy_answers: TableRef,
    sft_answers: TableRef,
    gold_reward: GoldReward,
    judge_credentials: dict[str, Any],
    policy_evaluation: PolicyEvaluationParams,
    evaluation: EvaluationParams,
) -> dict[str, Any]:
    """Compare the answers by the gold reward where it is known, and by a judge."""
    from ser_kedro.policy_evaluation.evaluate import evaluate

    return evaluate(
        policy_answers,
        sft_answers,
        gold_reward.world,
        policy_evaluation.judge,
        evaluation,
        judge_credentials,
    )
