"""Every benchmark, by the seed model and by the kept one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ser_kedro.evaluation.benchmarks.job import DROPPED, ScoreBenchmarkJob
from ser_kedro.evaluation.benchmarks.params import Benchmark
from ser_kedro.evaluation.benchmarks.sections import (
    TIES,
    Scored,
    credit,
    figures,
    scored_items,
)
from ser_kedro.launch.executor import run
from ser_kedro.launch.params import LauncherParams
from ser_kedro.models.params import Scoring
from ser_kedro.statistics.estimate import Estimate, mean_by_group, percent
from ser_kedro.statistics.params import StatisticsParams
from ser_kedro.store.references import ModelRef, TableRef
from ser_kedro.store.tables import read_table


def all_results(
    seed: ModelRef,
    kept: ModelRef,
    tests: Sequence[Benchmark],
    params: StatisticsParams,
    scoring: Scoring,
    launcher: LauncherParams,
) -> list[dict[str, Any]]:
    """Score every test set with both models and return their figures.

    Returns:
        A row a test set: ``name``, ``format``, ``dropped`` rows by reason, ``seed`` and
        ``kept`` (see ``sections.figures``), and ``gain``, the paired difference of what
        items earn, with its interval over prompts.
    """
    return [_result(test, seed, kept, params, scoring, launcher) for test in tests]


def _result(
    test: Benchmark,
    seed: ModelRef,
    kept: ModelRef,
    params: StatisticsParams,
    scoring: Scoring,
    launcher: LauncherParams,
) -> dict[str, Any]:
    scores = [_score(test, model, scoring, launcher) for model in (seed, kept)]
    before, after = (scored_items(read_table(table)) for table in scores)
    return {
        "name": test.name,
        "format": test.format,
        "dropped": _dropped(scores[0]),
        "seed": figures(test.format, before),
        "kept": figures(test.format, after),
        "gain": asdict(gain(before, after, params)),
    }


def _score(
    test: Benchmark, model: ModelRef, scoring: Scoring, launcher: LauncherParams
) -> TableRef:
    job = ScoreBenchmarkJob(
        model=model,
        test=test,
        **scoring.model_dump(),
    )
    return run(job, launcher)["scores"]


def _dropped(scores: TableRef) -> dict[str, int]:
    return {
        name.removeprefix(DROPPED): int(count)
        for name, count in scores.metrics.items()
        if name.startswith(DROPPED)
    }


def gain(
    before: list[Scored], after: list[Scored], params: StatisticsParams
) -> Estimate:
    """Return the paired difference of what items earn, after minus before.

    Items of ``Ties`` are left out: their score is one of the whole subset. Where there
    are no others, the difference is not known (NaN).
    """
    both = [
        (credit(two) - credit(one), one.group)
        for one, two in zip(before, after, strict=True)
        if one.subset != TIES
    ]
    if not both:
        return Estimate(*[float("nan")] * 3)
    differences, groups = zip(*both, strict=True)
    return mean_by_group(np.array(differences), np.array(groups), params)


def lines(results: list[dict[str, Any]]) -> list[str]:
    """Return the results as lines of the summary."""
    return [line for result in results for line in _lines(result)]


def _lines(result: dict[str, Any]) -> list[str]:
    seed, kept = result["seed"], result["kept"]
    found = Estimate.read(result["gain"])
    rows = [
        f"- {result['name']} ({result['format']}, {kept['items']:,} items):"
        f" seed {_percent(seed['overall'])}, kept {_percent(kept['overall'])};"
        f" paired difference {found.points()}: {found.verdict()}."
    ]
    for name, value in kept["sections"].items():
        label = name or "(no section)"
        rows.append(
            f"  - {label}: {_section(seed['sections'][name])} → {_section(value)}"
        )
    return rows


def _section(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_percent(part)}" for name, part in value.items())
    return _percent(value)


def _percent(value: float | None) -> str:
    return percent(float("nan") if value is None else value)
