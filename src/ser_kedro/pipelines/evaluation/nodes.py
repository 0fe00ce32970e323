"""Nodes of ``evaluation``: the only ones that read test pairs and the audit."""

from __future__ import annotations

from typing import Any

from ser_kedro.evidence.params import EvaluationParams
from ser_kedro.launch.json import plain
from ser_kedro.launch.params import LauncherParams
from ser_kedro.launch.reference import HasReference, Reference, reference_of
from ser_kedro.launch.table import read_table
from ser_kedro.preferences.source import PreferenceSource
from ser_kedro.reward import voters
from ser_kedro.reward.params import RewardParams, SftParams

Records = list[dict[str, Any]]
Scores = dict[str, dict[str, Any]]


def score_test(
    loop_history: Records,
    test_pairs: HasReference,
    reward: RewardParams,
    launcher: LauncherParams,
) -> Scores:
    """Score the test pairs with the model of every loop."""
    pairs = reference_of(test_pairs)
    return {
        str(loop): voters.score(model, pairs, reward, launcher).model_dump(mode="json")
        for loop, model in _models(loop_history).items()
    }


def evaluate_loops(
    loop_history: Records,
    test_scores: Scores,
    test_pairs: HasReference,
    audit_labels: HasReference,
    evaluation: EvaluationParams,
) -> Any:
    """Join the loops' records with the test figures and the audit."""
    from ser_kedro.evidence.history import evolution_history

    return evolution_history(
        loop_history,
        test_scores,
        reference_of(test_pairs),
        reference_of(audit_labels),
        evaluation,
    )


def diagnose(
    loop_history: Records,
    test_scores: Scores,
    test_pairs: HasReference,
    raw_preferences: PreferenceSource,
    evaluation: EvaluationParams,
) -> tuple[dict[str, Any], Any, Any]:
    """Measure calibration, length, sources and difficulty; draw two figures."""
    from ser_kedro.evidence.diagnostics import Measured, diagnostics, figures

    models = _models(loop_history)
    tested = {
        loop: Measured.load(model, Reference.model_validate(test_scores[str(loop)]))
        for loop, model in models.items()
    }
    kept, pairs = _kept_loop(loop_history), read_table(reference_of(test_pairs))
    world = raw_preferences.known_world
    found = diagnostics(tested, kept, pairs, evaluation, world)
    return plain(found), *figures(tested[kept], pairs, evaluation)


def score_further(
    loop_history: Records,
    test_pairs: HasReference,
    reward: RewardParams,
    evaluation: EvaluationParams,
    launcher: LauncherParams,
) -> dict[str, Any]:
    """Score other wordings of the test pairs, and further test sets."""
    from ser_kedro.evidence.consistency import consistency_of
    from ser_kedro.evidence.external.results import external_results

    models = _models(loop_history)
    seed, kept = models[0], models[_kept_loop(loop_history)]
    pairs = reference_of(test_pairs)
    found = {
        "consistency": consistency_of(kept, pairs, evaluation, reward, launcher),
        "external": external_results(seed, kept, evaluation, reward, launcher),
    }
    return dict(plain(found))


def report(
    evolution_history: Any,
    test_scores: Scores,
    test_pairs: HasReference,
    diagnostics: dict[str, Any],
    further_tests: dict[str, Any],
    data_report: dict[str, Any],
    sft_model: HasReference,
    sft: SftParams,
    evaluation: EvaluationParams,
) -> tuple[str, Any]:
    """Write the summary and draw the figure."""
    from ser_kedro.evidence import consistency
    from ser_kedro.evidence import diagnostics as diagnosed
    from ser_kedro.evidence.external import results as external
    from ser_kedro.evidence.history import gain
    from ser_kedro.evidence.report import LabelBudget, figure, summary

    kept = evolution_history.loc[evolution_history["selected_model"], "loop"].iloc[0]
    gained = gain(
        Reference.model_validate(test_scores["0"]),
        Reference.model_validate(test_scores[str(kept)]),
        reference_of(test_pairs),
        evaluation,
    )
    trained = "skipped" not in reference_of(sft_model).metrics
    labels = LabelBudget.count(data_report, trained and sft.target == "chosen")
    further = [
        *diagnosed.lines(diagnostics),
        *consistency.lines(further_tests["consistency"]),
        *external.lines(further_tests["external"]),
    ]
    text = summary(evolution_history, gained, labels, data_report, further)
    return text, figure(evolution_history)


def _models(loop_history: Records) -> dict[int, Reference]:
    return {
        record["loop"]: Reference.model_validate(record["model"])
        for record in loop_history
        if record["model"] is not None
    }


def _kept_loop(loop_history: Records) -> int:
    return int(next(r["loop"] for r in loop_history if r["selected_model"]))
