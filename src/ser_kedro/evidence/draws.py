"""Intervals over draws: seeds differ, and so do the prompts within each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ser_kedro.evidence.metrics import Estimate, Floats
from ser_kedro.evidence.params import EvaluationParams


def mean_over_draws(values: Sequence[Floats], params: EvaluationParams) -> Estimate:
    """Return the mean of draws' means, with a bootstrap over draws and their values.

    Each resample draws seeds with replacement, and within each of them its prompts
    (Davison and Hinkley 1997, section 3.8). Give paired differences to compare.

    Args:
        values: For each draw one figure a prompt, at least one draw.
        params: Confidence and number of resamples.
    """
    rng = np.random.default_rng(0)
    means = np.array([float(draw.mean()) for draw in values])
    resampled = np.stack(
        [
            draw[
                rng.integers(0, len(draw), (params.resamples, len(values), len(draw)))
            ].mean(axis=2)
            for draw in values
        ],
        axis=2,
    )
    # One resample: as many draws as there are, each in a place of its own.
    chosen = rng.integers(0, len(values), (params.resamples, len(values)))
    picked = np.take_along_axis(resampled, chosen[:, :, None], axis=2)[:, :, 0]
    tail = 100 * (1 - params.confidence) / 2
    low, high = np.percentile(picked.mean(axis=1), [tail, 100 - tail])
    return Estimate(float(means.mean()), float(low), float(high))
