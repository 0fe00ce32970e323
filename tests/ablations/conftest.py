"""Outcome tables with a known truth."""

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import norm

from ser_kedro.ablations.outcome_job import OUTCOMES

# Spread of pairs of one prompt, and the noise of one model on one pair.
PAIR, NOISE = 0.7, 1.0


def rewards(rng, level, *, seeds, prompts, pairs, spread, prompt):
    """Margins of a method, shape ``(seeds, prompts, pairs)``; right where positive."""
    return (
        level
        + spread * rng.normal(size=(seeds, 1, 1))
        + prompt
        + NOISE * rng.normal(size=(seeds, prompts, pairs))
    )


def true_accuracy(level, spread, prompt):
    """Accuracy over all seeds and prompts that there could be."""
    spread = np.sqrt(NOISE**2 + PAIR**2 + spread**2 + prompt**2)
    return float(norm.cdf(level / spread))


@pytest.fixture(scope="session")
def simulated():
    """Make a table of outcomes, and the methods' true accuracies."""

    def make(
        levels,
        *,
        data="demo",
        phase="confirmation",
        study="methods",
        first=0,
        seeds=5,
        prompts=200,
        pairs=2,
        spread=0.05,
        prompt=0.5,
        crossed=True,
        scale=1.0,
        seed=0,
    ):
        """``levels`` maps a method, or a method and its share, to its strength."""
        rng = np.random.default_rng(seed)
        shape = (1 if crossed else seeds, prompts, pairs)
        shared = prompt * rng.normal(size=(*shape[:2], 1))
        shared = shared + PAIR * rng.normal(size=shape)
        tables, truth = [], {}
        index = np.stack(
            np.meshgrid(*map(np.arange, (seeds, prompts, pairs)), indexing="ij"), -1
        ).reshape(-1, 3)
        world = np.zeros(len(index), int) if crossed else index[:, 0] + 1
        groups = [
            f"{data}-{first}-{w}-{g}" for w, g in zip(world, index[:, 1], strict=True)
        ]
        ids = [f"{group}-{i}" for group, i in zip(groups, index[:, 2], strict=True)]
        for key, level in levels.items():
            method, share = key if isinstance(key, tuple) else (key, 0.15)
            margins = rewards(
                rng, level, seeds=seeds, prompts=prompts, pairs=pairs, spread=spread,
                prompt=shared,
            )  # fmt: skip
            rows = {
                "data": [data] * len(index),
                "phase": [phase] * len(index),
                "study": [study] * len(index),
                "share": np.full(len(index), share),
                "method": [method] * len(index),
                "seed": first + index[:, 0],
                "pair_id": ids,
                "group": groups,
                "source": [f"s{g % 2}" for g in index[:, 1]],
                "chosen_reward": (scale * margins).ravel().astype(np.float32),
                "rejected_reward": np.zeros(len(index), np.float32),
                "offset": np.zeros(len(index)),
                "temperature": np.full(len(index), float(scale)),
                # The preferred answer is the longer one in two pairs of three.
                "excess_length": np.where(index.sum(1) % 3, 10, -10),
            }
            tables.append(pa.table(rows, schema=OUTCOMES))
            truth[method, share] = true_accuracy(level, spread, prompt)
        return pa.concat_tables(tables), truth

    return make
