"""Where training on a reward model stops helping: the proxy rises, the truth falls.

Gao et al. 2023 (arXiv 2210.10760) measure it against a gold reward model; in the demo
world the gold reward itself is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from plotly.graph_objects import Figure, Scatter

from ser_kedro.statistics.estimate import Floats


@dataclass(frozen=True)
class Overoptimisation:
    """The point of a run after which the proxy reward rises and the gold one falls.

    All rewards are moving means.

    Attributes:
        step: Where the gold reward is highest.
        gold_at_peak: Gold reward there.
        gold_at_end: Gold reward at the end of the run.
        proxy_at_peak: Proxy reward where the gold reward is highest.
        proxy_at_end: Proxy reward at the end of the run.
        found: The gold reward falls after its peak by more than its noise, and the
            proxy reward rises.
    """

    step: int
    gold_at_peak: float
    gold_at_end: float
    proxy_at_peak: float
    proxy_at_end: float
    found: bool


def find_overoptimisation(
    steps: Sequence[int], proxy: Sequence[float], gold: Sequence[float], window: int = 5
) -> Overoptimisation:
    """Find where a run begins to be over-optimised, if it does.

    Args:
        steps: Steps of the evaluations, rising, of length ``n``.
        proxy: Reward that was maximised, on held-out prompts, of length ``n``.
        gold: Gold reward of the same answers, of length ``n``.
        window: Evaluations of a moving mean, odd. The noise is two standard errors of
            such a mean, from the differences of neighbouring evaluations.

    Raises:
        ValueError: If there are fewer evaluations than a window takes.
    """
    if len(steps) < window:
        raise ValueError(f"{len(steps)} evaluations, fewer than a window of {window}")
    rewards = np.asarray(gold, np.float64)
    smooth_proxy, smooth_gold = moving_mean(proxy, window), moving_mean(gold, window)
    peak = int(smooth_gold.argmax())
    noise = 2 * rewards_noise(rewards) / np.sqrt(window)
    fall = smooth_gold[peak] - smooth_gold[-1]
    rise = smooth_proxy[-1] - smooth_proxy[peak]
    return Overoptimisation(
        step=int(steps[peak + window // 2]),
        gold_at_peak=float(smooth_gold[peak]),
        gold_at_end=float(smooth_gold[-1]),
        proxy_at_peak=float(smooth_proxy[peak]),
        proxy_at_end=float(smooth_proxy[-1]),
        found=bool(fall > noise and rise > 0),
    )


def moving_mean(values: Sequence[float], window: int) -> Floats:
    """Return the means of ``window`` neighbours, shape ``(n - window + 1,)``."""
    return np.convolve(
        np.asarray(values, np.float64), np.ones(window) / window, "valid"
    )


def rewards_noise(values: Floats) -> float:
    """Return the deviation of one evaluation, from differences of neighbours.

    Slow changes cancel in the differences (von Neumann et al. 1941).
    """
    return float(np.sqrt((np.diff(values) ** 2).mean() / 2))


def figure(
    steps: Sequence[int],
    proxy: Sequence[float],
    gold: Sequence[float],
    point: Overoptimisation,
    window: int = 5,
) -> Figure:
    """Draw proxy and gold reward over the steps of a run, and the point between."""
    middle = steps[window // 2 : len(steps) - window // 2]
    drawn = Figure()
    for name, values, axis, colour in (
        ("proxy reward (maximised)", proxy, "y", "#1f77b4"),
        ("gold reward (the truth)", gold, "y2", "#d62728"),
    ):
        dots = {"mode": "markers", "opacity": 0.35, "showlegend": False}
        line = {"mode": "lines", "name": name}
        drawn.add_trace(
            Scatter(x=steps, y=values, yaxis=axis, marker={"color": colour}, **dots)
        )
        mean = moving_mean(values, window)
        drawn.add_trace(
            Scatter(x=middle, y=mean, yaxis=axis, line={"color": colour}, **line)
        )
    text = "over-optimised from here" if point.found else "highest gold reward"
    drawn.add_vline(x=point.step, line={"dash": "dash"}, annotation_text=text)
    drawn.update_layout(
        title="The reward model's reward and the true one, on held-out prompts",
        xaxis={"title": "rollouts"},
        yaxis={"title": "proxy reward"},
        yaxis2={"title": "gold reward", "overlaying": "y", "side": "right"},
        legend={"orientation": "h", "y": -0.2},
    )
    return drawn
