"""Corrections of p-values for the number of comparisons."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number (Holm, 1979); NaN stays NaN."""
    values = np.asarray(p_values, np.float64)
    order = np.argsort(values)
    factors = len(values) - np.arange(len(values))
    stepped = np.maximum.accumulate(np.minimum(1.0, factors * values[order]))
    corrected = np.empty_like(values)
    corrected[order] = stepped
    return [float(value) for value in corrected]
