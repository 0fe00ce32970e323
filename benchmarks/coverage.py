"""How often intervals of 95 % hold the truth, by three ways to make them.

Usage: python -m benchmarks.coverage [--tables 500]

Simulated outcomes of two methods on the same prompts and pairs, with seeds that differ
and prompts that differ. For each design: the interval of an accuracy and that of a
paired difference, by a percentile bootstrap of the prompts, one of prompts and seeds,
and the variance components that this project uses. Prints a Markdown table.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm

from ser_kedro.statistics.intervals import Cells, infer

Floats = NDArray[np.float64]
DRAWS, PROMPTS, PAIRS, RESAMPLES = 5, 200, 2, 400
LEVELS = (0.6, 0.75)
PROMPT, PAIR = 0.5, 0.7
DESIGNS = {"seeds are alike": 0.0, "seeds differ": 0.1, "seeds differ much": 0.3}


def simulate(
    rng: np.random.Generator, tables: int, spread: float
) -> tuple[list[Floats], list[float]]:
    """Return sums of right answers ``(tables, seeds, prompts)``, and accuracies."""
    shared = PROMPT * rng.normal(size=(tables, 1, PROMPTS, 1)) + PAIR * rng.normal(
        size=(tables, 1, PROMPTS, PAIRS)
    )
    sums = []
    for level in LEVELS:
        own = spread * rng.normal(size=(tables, DRAWS, 1, 1))
        noise = rng.normal(size=(tables, DRAWS, PROMPTS, PAIRS))
        sums.append((level + own + shared + noise > 0).sum(-1).astype(np.float64))
    spread = np.sqrt(1 + PROMPT**2 + PAIR**2 + spread**2)
    return sums, [float(norm.cdf(level / spread)) for level in LEVELS]


def bootstrap(
    rng: np.random.Generator, totals: Floats, *, seeds: bool
) -> tuple[Floats, Floats]:
    """Return percentile intervals from resampled prompts, and seeds if asked."""
    by_prompt = rng.multinomial(PROMPTS, np.full(PROMPTS, 1 / PROMPTS), RESAMPLES)
    by_seed = np.ones((RESAMPLES, DRAWS))
    if seeds:
        by_seed = rng.multinomial(DRAWS, np.full(DRAWS, 1 / DRAWS), RESAMPLES)
    sums = np.einsum("tsb,bs->tb", totals @ by_prompt.T, by_seed)
    low, high = np.quantile(sums / (DRAWS * PROMPTS * PAIRS), (0.025, 0.975), axis=1)
    return low, high


def components(totals: Floats) -> tuple[Floats, Floats]:
    """Return the intervals of this project."""
    sizes = np.full((DRAWS, PROMPTS), float(PAIRS))
    return infer(Cells(totals, sizes)).bounds(0.95)


def main() -> None:
    """Print the share of intervals that hold the truth, in per cent."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=int, default=500)
    tables = parser.parse_args().tables
    rng = np.random.default_rng(0)
    rows = []
    for design, spread in DESIGNS.items():
        (seed, ser), (low, high) = simulate(rng, tables, spread)
        for figure, totals, truth in (
            ("accuracy", ser, high),
            ("difference", ser - seed, high - low),
        ):
            ways = {
                "bootstrap of prompts": bootstrap(rng, totals, seeds=False),
                "of prompts and seeds": bootstrap(rng, totals, seeds=True),
                "variance components": components(totals),
            }
            covered = {
                name: f"{np.mean((ends[0] <= truth) & (truth <= ends[1])):.1%}"
                for name, ends in ways.items()
            }
            rows.append({"design": design, "interval of": figure, **covered})
    print(pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True))


if __name__ == "__main__":
    main()
