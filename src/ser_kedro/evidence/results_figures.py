"""The results page's figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ser_kedro.evidence.compare import Comparison
from ser_kedro.evidence.metrics import Estimate

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def arms_figure(name: str, phases: Mapping[str, Sequence[Comparison]]) -> Figure:
    """Draw the accuracy of every arm with its interval, a colour a phase."""
    from plotly.graph_objects import Figure, Scatter

    shares = len({row.share for rows in phases.values() for row in rows}) > 1
    figure = Figure(
        [
            Scatter(
                x=[row.accuracy.value for row in rows],
                y=[f"{r.arm} {r.share:.0%}" if shares else r.arm for r in rows],
                error_x=_bars([row.accuracy for row in rows]),
                mode="markers",
                name=phase,
            )
            for phase, rows in phases.items()
        ]
    )
    figure.update_layout(
        title=f"{name}: accuracy of every arm",
        xaxis={"title": "share of test pairs ranked right", "tickformat": ".0%"},
        yaxis={"automargin": True},
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
        xaxis={"title": "share of the labels", "type": "log", "tickformat": ".0%"},
        yaxis={"title": "share of test pairs ranked right", "tickformat": ".0%"},
    )
    return figure


def _bars(estimates: Sequence[Estimate]) -> dict[str, Any]:
    return {
        "array": [one.high - one.value for one in estimates],
        "arrayminus": [one.value - one.low for one in estimates],
    }
