"""Nodes of ``evaluation``: the only ones that read test pairs and the audit."""

from __future__ import annotations

from typing import Any

from ser_kedro.evidence.params import EvaluationParams
from ser_kedro.launch.params import LauncherParams
from ser_kedro.launch.reference import HasReference, Reference, reference_of
from ser_kedro.reward import steps
from ser_kedro.reward.params import RewardParams, SftParams

Records = list[dict[str, Any]]
Scores = dict[str, dict[str, Any]]


def score_test(
    loop_history: Records,
    test_pairs: HasReference,
    params: RewardParams,
    launcher: LauncherParams,
) -> Scores:
    """Score the test pairs with the model of every loop."""
    pairs = reference_of(test_pairs)
    return {
        str(record["loop"]): steps.score(
            Reference.model_validate(record["model"]), pairs, params, launcher
        ).model_dump(mode="json")
        for record in loop_history
        if record["model"] is not None
    }


def evaluate_loops(
    loop_history: Records,
    test_scores: Scores,
    test_pairs: HasReference,
    audit_labels: HasReference,
    params: EvaluationParams,
) -> Any:
    """Join the loops' records with the test figures and the audit."""
    from ser_kedro.evidence.history import evolution_history

    return evolution_history(
        loop_history,
        test_scores,
        reference_of(test_pairs),
        reference_of(audit_labels),
        params,
    )


def report(
    evolution_history: Any,
    test_scores: Scores,
    test_pairs: HasReference,
    data_report: dict[str, Any],
    sft_model: HasReference,
    sft: SftParams,
    params: EvaluationParams,
) -> tuple[str, Any]:
    """Write the summary and draw the figure."""
    from ser_kedro.evidence.history import gain
    from ser_kedro.evidence.report import LabelBudget, figure, summary

    kept = evolution_history.loc[evolution_history["selected_model"], "loop"].iloc[0]
    gained = gain(
        Reference.model_validate(test_scores["0"]),
        Reference.model_validate(test_scores[str(kept)]),
        reference_of(test_pairs),
        params,
    )
    trained = "skipped" not in reference_of(sft_model).metrics
    labels = LabelBudget.count(data_report, trained and sft.target == "chosen")
    text = summary(evolution_history, gained, labels, data_report)
    return text, figure(evolution_history)
