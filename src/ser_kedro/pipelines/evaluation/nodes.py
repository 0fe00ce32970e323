"""Nodes of ``evaluation``: the only ones that read test pairs and the audit."""

from __future__ import annotations

from typing import Any

from ser_kedro.evaluation.params import EvaluationParams
from ser_kedro.evaluation.test_scores import TestScores
from ser_kedro.launch.params import LauncherParams
from ser_kedro.preferences.source import PreferenceSource
from ser_kedro.self_evolution import voters
from ser_kedro.self_evolution.state import EvolutionState
from ser_kedro.store.json_io import plain
from ser_kedro.store.references import ModelRef, TableRef
from ser_kedro.store.tables import read_table
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
            loop: voters.score(model, test_pairs, reward, launcher)
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
        loop_history,
        test_scores,
        test_pairs,
        audit_labels,
        evaluation,
    )


def diagnose(
    loop_history: EvolutionState,
    test_scores: TestScores,
    test_pairs: TableRef,
    raw_preferences: PreferenceSource,
    evaluation: EvaluationParams,
) -> tuple[dict[str, Any], Any, Any]:
    """Measure calibration, length, sources and difficulty; draw two figures."""
    from ser_kedro.evaluation.diagnostics import Measured, diagnostics, figures

    tested = {
        loop: Measured.load(model, test_scores.root[loop])
        for loop, model in loop_history.models.items()
    }
    kept, pairs = loop_history.best_loop, read_table(test_pairs)
    world = raw_preferences.known_world
    found = diagnostics(tested, kept, pairs, evaluation, world)
    return plain(found), *figures(tested[kept], pairs, evaluation)


def score_further(
    loop_history: EvolutionState,
    test_pairs: TableRef,
    reward: RewardParams,
    evaluation: EvaluationParams,
    launcher: LauncherParams,
) -> dict[str, Any]:
    """Score other wordings of the test pairs, and further test sets."""
    from ser_kedro.evaluation.benchmarks.results import external_results
    from ser_kedro.evaluation.consistency import consistency_of

    seed, kept = loop_history.models[0], loop_history.best
    found = {
        "consistency": consistency_of(kept, test_pairs, evaluation, reward, launcher),
        "external": external_results(seed, kept, evaluation, reward, launcher),
    }
    return dict(plain(found))


def report(
    evolution_history: Any,
    test_scores: TestScores,
    test_pairs: TableRef,
    diagnostics: dict[str, Any],
    further_tests: dict[str, Any],
    data_report: dict[str, Any],
    sft_model: ModelRef,
    sft: SftParams,
    evaluation: EvaluationParams,
) -> tuple[str, Any]:
    """Write the summary and draw the figure."""
    from ser_kedro.evaluation import consistency
    from ser_kedro.evaluation import diagnostics as diagnosed
    from ser_kedro.evaluation.benchmarks import results as external
    from ser_kedro.evaluation.history import gain
    from ser_kedro.evaluation.report import LabelBudget, figure, summary

    kept = evolution_history.loc[evolution_history["selected_model"], "loop"].iloc[0]
    scores = test_scores.root
    gained = gain(scores[0], scores[kept], test_pairs, evaluation)
    tuned = sft_model.kind == "language_model"
    labels = LabelBudget.count(data_report, tuned and sft.target == "chosen")
    further = [
        *diagnosed.lines(diagnostics),
        *consistency.lines(further_tests["consistency"]),
        *external.lines(further_tests["external"]),
    ]
    text = summary(evolution_history, gained, labels, data_report, further)
    return text, figure(evolution_history)
