"""Length: does a model prefer longer answers more often than annotators do?"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from plotly.graph_objects import Figure, Scatter
from scipy.stats import spearmanr

from ser_kedro.evaluation.params import EvaluationParams
from ser_kedro.statistics.estimate import Estimate, correct, mean_by_group

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LengthFigures:
    """Rewards beside the lengths of the responses, in characters.

    Attributes:
        correlation: Spearman's, of the differences in reward and in length within
            pairs; in [-1, 1], NaN where one of them does not vary.
        people_prefer_longer: Share of the pairs in which annotators did, in [0, 1].
        model_prefers_longer: The same of the model.
        excess: The model's share minus the annotators', paired.
        shorter_preferred: Accuracy among pairs in which annotators preferred the
            shorter response; ``None`` where there are none.
        longer_preferred: The same for the longer one.
    """

    correlation: float
    people_prefer_longer: float
    model_prefers_longer: float
    excess: Estimate
    shorter_preferred: Estimate | None
    longer_preferred: Estimate | None

    @property
    def verdict(self) -> str:
        """What can be said: ``towards longer``, ``towards shorter`` or neither."""
        if not self.excess.excludes_zero:
            return "not significant"
        return "towards longer" if self.excess.value > 0 else "towards shorter"

    def as_dict(self) -> dict[str, Any]:
        """Return the figures and the verdict."""
        return {**asdict(self), "bias": self.verdict}


def length_bias(
    chosen: Floats,
    rejected: Floats,
    lengths: tuple[NDArray[np.int64], NDArray[np.int64]],
    groups: NDArray[np.str_],
    params: EvaluationParams,
) -> LengthFigures | None:
    """Compare a model's preference for long answers with the annotators'.

    Args:
        chosen: Raw rewards of the preferred responses, shape ``(n,)``.
        rejected: Raw rewards of the others.
        lengths: Of the preferred and of the other responses, in characters.
        groups: Prompt group of each pair.
        params: How to report.

    Returns:
        The figures over pairs of unequal length; ``None`` where there are none.
    """
    longer = np.sign(lengths[0] - lengths[1])
    unequal = longer != 0
    if not unequal.any():
        return None
    margins, longer, groups = (
        (chosen - rejected)[unequal],
        longer[unequal],
        groups[unequal],
    )
    right = correct(chosen[unequal], rejected[unequal])
    people = (longer > 0).astype(np.float64)
    model = np.where(longer > 0, right, 1 - right)
    by_length = (lengths[0] - lengths[1])[unequal]
    # Both ways round: which side is the preferred one must not count.
    rewards, sizes = np.append(margins, -margins), np.append(by_length, -by_length)
    varies = np.ptp(rewards) > 0
    return LengthFigures(
        correlation=float(spearmanr(rewards, sizes).statistic) if varies else np.nan,
        people_prefer_longer=float(people.mean()),
        model_prefers_longer=float(model.mean()),
        excess=mean_by_group(model - people, groups, params),
        shorter_preferred=_among(right, groups, longer < 0, params),
        longer_preferred=_among(right, groups, longer > 0, params),
    )


def _among(
    right: Floats,
    groups: NDArray[np.str_],
    rows: NDArray[np.bool_],
    params: EvaluationParams,
) -> Estimate | None:
    return mean_by_group(right[rows], groups[rows], params) if rows.any() else None


def length_figure(
    margins: Floats, lengths: tuple[NDArray[np.int64], NDArray[np.int64]], bins: int
) -> Any:
    """Draw accuracy by how much longer the preferred response is, as a Plotly figure.

    Args:
        margins: Reward of the preferred response minus the other's, shape ``(n,)``.
        lengths: As in ``length_bias``.
        bins: Bins of about as many pairs each.
    """
    by_length = lengths[0] - lengths[1]
    order = np.argsort(by_length, kind="stable")
    right = correct(margins, np.zeros_like(margins))
    parts = [part for part in np.array_split(order, bins) if len(part)]
    figure = Figure(
        Scatter(
            x=[float(by_length[part].mean()) for part in parts],
            y=[float(right[part].mean()) for part in parts],
            text=[f"{len(part):,} pairs" for part in parts],
            mode="lines+markers",
        )
    )
    figure.update_layout(
        title="Accuracy by length",
        xaxis={"title": "characters by which the preferred answer is longer"},
        yaxis={"title": "share of pairs ranked right", "tickformat": ".0%"},
    )
    return figure
