"""``evolution_history``: the loops' records joined with the test set and the audit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from ser_kedro.evaluation.params import EvaluationParams
from ser_kedro.evaluation.test_scores import TestScores
from ser_kedro.self_evolution.state import EvolutionState
from ser_kedro.statistics.estimate import Estimate, correct, mean_by_group
from ser_kedro.statistics.params import StatisticsParams
from ser_kedro.store.references import ModelRef, SelectionRef, TableRef
from ser_kedro.store.tables import read_table

COLUMNS = [
    "loop",
    "status",
    "selected",
    "pool_left",
    "self_label_accuracy",
    "validation_accuracy",
    "validation_log_loss",
    "test_accuracy",
    "test_accuracy_low",
    "test_accuracy_high",
    "trained_pairs",
    "overlong_pairs",
    "equal_pairs",
    "outcome",
    "stop_reason",
    "selected_model",
]
_TRAINING = (
    "validation_accuracy",
    "validation_log_loss",
    "trained_pairs",
    "overlong_pairs",
    "equal_pairs",
)


def correct_pairs(scores: TableRef) -> np.ndarray:
    """Return 1, 0 or ½ for each scored labelled pair, shape ``(n,)``."""
    table = read_table(scores)
    return correct(table["reward_a"].to_numpy(), table["reward_b"].to_numpy())


def prompt_groups(test_pairs: TableRef) -> np.ndarray:
    """Return the prompt group of each test pair, shape ``(n,)``."""
    return np.array(read_table(test_pairs)["group"].to_pylist())


def self_label_accuracy(selection: SelectionRef, audit: TableRef) -> float | None:
    """Return the share of a selection's self-labels that agree with the annotators.

    ``None`` where nobody has labelled the pool.

    Args:
        selection: A loop's selection, at least one pair.
        audit: ``audit_labels``.
    """
    if not audit.rows:
        return None
    columns = ["pair_id", "a_preferred"]
    joined = read_table(selection).select(columns).join(read_table(audit), "pair_id")
    right = pc.equal(joined["a_preferred"], joined["a_is_chosen"])
    return float(pc.mean(right.cast("float64")).as_py())


def evolution_history(
    loop_history: EvolutionState,
    test_scores: TestScores,
    test_pairs: TableRef,
    audit: TableRef,
    params: EvaluationParams,
) -> pd.DataFrame:
    """Return a row for each loop, loop 0 the seed, and for each model after them.

    Args:
        loop_history: The state after the last loop.
        test_scores: Test scores by loop; only loops with a model.
        test_pairs: The test pairs.
        audit: ``audit_labels``.
        params: How to report.

    Returns:
        A frame with ``COLUMNS``; shares and accuracies in [0, 1], missing where a loop
        trained no model; a model that is refitted has no validation.
    """
    groups = prompt_groups(test_pairs)
    rows = []
    for record in loop_history.records:
        row: dict[str, Any] = {
            **record.model_dump(include={"loop", "status", "selected", "pool_left"}),
            "outcome": str(record.outcome),
            "stop_reason": record.stop_reason,
            "selected_model": record.loop == loop_history.best_loop,
        }
        if record.model is not None:
            row |= _test_figures(test_scores.root[record.loop], groups, params)
            row |= _training_figures(record.model)
        if record.selection is not None and record.selected:
            row["self_label_accuracy"] = self_label_accuracy(record.selection, audit)
        rows.append(row)
    return pd.DataFrame(rows).reindex(columns=COLUMNS)


def gain(
    seed_scores: TableRef,
    evolved_scores: TableRef,
    test_pairs: TableRef,
    params: StatisticsParams,
) -> Estimate:
    """Return the paired difference in test accuracy, the second minus the first."""
    difference = correct_pairs(evolved_scores) - correct_pairs(seed_scores)
    return mean_by_group(difference, prompt_groups(test_pairs), params)


def _training_figures(model: ModelRef) -> dict[str, float | None]:
    return {name: model.metrics.get(name) for name in _TRAINING}


def _test_figures(
    scores: TableRef, groups: np.ndarray, params: EvaluationParams
) -> dict[str, float]:
    estimate = mean_by_group(correct_pairs(scores), groups, params)
    return {
        "test_accuracy": estimate.value,
        "test_accuracy_low": estimate.low,
        "test_accuracy_high": estimate.high,
    }
