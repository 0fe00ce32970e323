"""The results page's figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ser_kedro.ablations.compare import Comparison
from ser_kedro.statistics.estimate import Estimate

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


_MARGIN = 0.05


def arms_figure(name: str, phases: Mapping[str, Sequence[Comparison]]) -> Figure:
    """Draw the accuracy of every arm with its interval, a colour a phase."""
    from plotly.graph_objects import Figure, Scatter

    every = [row for rows in phases.values() for row in rows]
    shares = len({row.share for row in every}) > 1

    def label(row: Comparison) -> str:
        return f"{row.arm} {row.share:.0%}" if shares else row.arm

    # The last phase that has an arm says where it stands.
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
        title=f"{name}: accuracy of every arm",
        height=200 + 22 * len(place),
        xaxis={
            "title": "share of test pairs ranked right",
            "tickformat": ".0%",
            # Intervals of two draws would fill it: they are cut off.
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
    """Draw accuracy by share of the labels, a line an arm."""
    from plotly.graph_objects import Figure, Scatter

    figure = Figure(
        [
            Scatter(
                x=[share for share, _ in points],
                y=[estimate.value for _, estimate in points],
                error_y=_bars([estimate for _, estimate in points]),
                mode="lines+markers",
                name=arm,
            )
            for arm, points in curve.items()
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
