"""Nodes of ``evaluation``: the only ones that read test pairs and the audit."""

from __future__ import annotations

from typing import Any

from ser_kedro.evaluation.params import EvaluationParams
from ser_kedro.evaluation.test_scores import TestScores
from ser_kedro.launch.params import LauncherParams
from ser_kedro.models.scoring import score_pairs
from ser_kedro.preferences.demo_world.gold import GoldReward
from ser_kedro.self_evolution.state import EvolutionState
from ser_kedro.store.references import ModelRef, TableRef
from ser_kedro.training.params import RewardParams, SftParams


def score_test(
    loop_history: EvolutionState,
    test_pairs: TableRef,
    reward: RewardParams,
    launcher: LauncherParams,
) -> TestScores:
    """Score the test pairs with the model of every loop."""
    return TestScores(
        {
            loop: score_pairs(model, test_pairs, reward.scoring, launcher)
            for loop, model in loop_history.models.items()
        }
    )


def evaluate_loops(
    loop_history: EvolutionState,
    test_scores: TestScores,
    test_pairs: TableRef,
    audit_labels: TableRef,
    evaluation: EvaluationParams,
) -> Any:
    """Join the loops' records with the test figures and the audit."""
    from ser_kedro.evaluation.history import evolution_history

    return evolution_history(
        loop_history, test_scores, test_pairs, audit_labels, evaluation
    )


def diagnose(
    loop_history: EvolutionState,
    test_scores: TestScores,
    test_pairs: TableRef,
    gold_reward: GoldReward,
    evaluation: EvaluationParams,
) -> tuple[dict[str, Any], Any, Any]:
    """Measure calibration, length, sources and difficulty; draw two figures."""
    from ser_kedro.evaluation.diagnostics import diagnose_loops

    return diagnose_loops(
        loop_history, test_scores, test_pairs, gold_reward.world, evaluation
    )


def score_benchmarks(
    loop_history: EvolutionState,
    test_pairs: TableRef,
    reward: RewardParams,
    evaluation: EvaluationParams,
    launcher: LauncherParams,
) -> dict[str, Any]:
    """Score other wordings of the test pairs, and the benchmarks."""
    from ser_kedro.evaluation.benchmark_results import benchmark_results

    return benchmark_results(
        loop_history, test_pairs, reward.scoring.whole, evaluation, launcher
    )


def report(
    evolution_history: Any,
    test_scores: TestScores,
    test_pairs: TableRef,
    diagnostics: dict[str, Any],
    benchmark_results: dict[str, Any],
    data_report: dict[str, Any],
    sft_model: ModelRef,
    sft: SftParams,
    evaluation: EvaluationParams,
) -> tuple[str, Any]:
    """Write the summary and draw the figure."""
    from ser_kedro.evaluation.report import LabelBudget, report_of

    tuned = bool(sft_model.metrics)  # what is passed on is not measured
    labels = LabelBudget.count(
        data_report,
        sft_spends=tuned and sft.target == "chosen",
        ready=sft_model.kind == "reward_model",
    )
    return report_of(
        evolution_history,
        test_scores,
        test_pairs,
        diagnostics,
        benchmark_results,
        data_report,
        labels,
        evaluation,
    )
