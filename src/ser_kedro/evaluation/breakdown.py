"""Accuracy by source and by difficulty."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from ser_kedro.evaluation.params import EvaluationParams
from ser_kedro.statistics.estimate import mean_by_group

Floats = NDArray[np.float64]
Texts = NDArray[np.str_]


def by_source(
    right: Floats, sources: Texts, groups: Texts, params: EvaluationParams
) -> list[dict[str, Any]]:
    """Return the accuracy of each source, in order of their names.

    Args:
        right: 1, 0 or ½ for each pair, shape ``(n,)``.
        sources: Source of each pair; empty where it has none.
        groups: Prompt group of each pair.
        params: How to report.
    """
    return [
        {"source": str(source), **_figures(right, groups, sources == source, params)}
        for source in np.unique(sources)
    ]


def by_difficulty(
    right: Floats, ease: Floats, groups: Texts, params: EvaluationParams
) -> list[dict[str, Any]]:
    """Return the accuracy in bins of about as many pairs, the hardest first.

    Args:
        right: 1, 0 or ½ for each pair, shape ``(n,)``.
        ease: How far apart the two responses are, by a measure that is not the model's
            own: the gold gap of the demo world, or another model's margin.
        groups: Prompt group of each pair.
        params: How to report, and the number of bins.

    Returns:
        A row a bin, equal values of ``ease`` never parted: ``ease_from``, ``ease_to``,
        ``pairs``, ``accuracy``, ``low``, ``high``.
    """
    place = equal_bins(ease, params.bins)
    rows = []
    for number in np.unique(place):
        inside = place == number
        bounds = {
            "ease_from": float(ease[inside].min()),
            "ease_to": float(ease[inside].max()),
        }
        rows.append(bounds | _figures(right, groups, inside, params))
    return rows


def equal_bins(values: Floats, bins: int) -> NDArray[np.int64]:
    """Return the bin of each value, of about as many each; equal values share one."""
    ranks = rankdata(values) / len(values)
    return np.asarray(np.ceil(bins * ranks) - 1, np.int64)


def _figures(
    right: Floats, groups: Texts, rows: NDArray[np.bool_], params: EvaluationParams
) -> dict[str, Any]:
    estimate = mean_by_group(right[rows], groups[rows], params)
    return {
        "pairs": int(rows.sum()),
        "accuracy": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
    }
