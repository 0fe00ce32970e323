"""Tests beyond the test pairs: their other wordings, and benchmarks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ser_kedro.evaluation import consistency
from ser_kedro.evaluation.benchmarks import results as benchmarks
from ser_kedro.evaluation.params import EvaluationParams
from ser_kedro.launch.params import LauncherParams
from ser_kedro.models.params import Scoring
from ser_kedro.self_evolution.state import EvolutionState
from ser_kedro.store.json_io import plain
from ser_kedro.store.references import TableRef


def benchmark_results(
    loop_history: EvolutionState,
    test_pairs: TableRef,
    scoring: Scoring,
    params: EvaluationParams,
    launcher: LauncherParams,
) -> dict[str, Any]:
    """Return the ``consistency`` of the kept model, and results by ``benchmarks``.

    Args:
        loop_history: The state after the last loop.
        test_pairs: The test pairs.
        scoring: How reward models are applied.
        params: How many pairs, which benchmarks, how to report.
        launcher: How jobs run.
    """
    seed, kept = loop_history.seed_model, loop_history.best
    found = {
        "consistency": consistency.consistency_of(
            kept, test_pairs, params, scoring, launcher
        ),
        "benchmarks": benchmarks.all_results(
            seed, kept, params.benchmarks, params, scoring, launcher
        ),
    }
    return dict(plain(found))


def lines(found: dict[str, Any]) -> Iterator[str]:
    """Yield the same as lines of the summary."""
    yield from consistency.lines(found["consistency"])
    yield from benchmarks.lines(found["benchmarks"])
