"""The results page's figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from plotly.graph_objects import Figure, Scatter

from ser_kedro.ablations.compare import Comparison
from ser_kedro.statistics.estimate import Estimate

_MARGIN = 0.05


def methods_figure(name: str, phases: Mapping[str, Sequence[Comparison]]) -> Figure:
    """Draw the accuracy of every method with its interval, a colour a phase."""
    every = [row for rows in phases.values() for row in rows]
    shares = len({row.share for row in every}) > 1

    def label(row: Comparison) -> str:
        return f"{row.method} {row.share:.0%}" if shares else row.method

    # The last phase that has a method says where it stands.
    place = {label(row): row.accuracy.value for row in every}
    figure = Figure(
        [
            Scatter(
                x=[row.accuracy.value for row in rows],
                y=[label(row) for row in rows],
                error_x=_bars([row.accuracy for row in rows]),
                mode="markers",
                name=phase,
            )
            for phase, rows in phases.items()
        ]
    )
    values = [row.accuracy.value for row in every]
    figure.update_layout(
        title=f"{name}: accuracy of every method",
        height=200 + 22 * len(place),
        xaxis={
            "title": "share of test pairs ranked right",
            "tickformat": ".0%",
            # Intervals of two seeds would fill it: they are cut off.
            "range": [min(values) - _MARGIN, max(values) + _MARGIN],
        },
        yaxis={
            "automargin": True,
            "dtick": 1,
            "categoryorder": "array",
            "categoryarray": sorted(place, key=place.__getitem__),
        },
        showlegend=True,
    )
    return figure


def efficiency_figure(
    name: str, curve: Mapping[str, Sequence[tuple[float, Estimate]]]
) -> Figure:
    """Draw accuracy by share of the labels, a line a method."""
    figure = Figure(
        [
            Scatter(
                x=[share for share, _ in points],
                y=[estimate.value for _, estimate in points],
                error_y=_bars([estimate for _, estimate in points]),
                mode="lines+markers",
                name=method,
            )
            for method, points in curve.items()
        ]
    )
    figure.update_layout(
        title=f"{name}: accuracy by labels",
        xaxis={
            "title": "share of the labels",
            "type": "log",
            "tickvals": sorted(
                {share for points in curve.values() for share, _ in points}
            ),
            "tickformat": ".0%",
        },
        yaxis={"title": "share of test pairs ranked right", "tickformat": ".0%"},
    )
    return figure


def _bars(estimates: Sequence[Estimate]) -> dict[str, Any]:
    return {
        "array": [one.high - one.value for one in estimates],
        "arrayminus": [one.value - one.low for one in estimates],
    }
