"""Warnings where the numbers of a run say nothing."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from ser_kedro.evaluation.test_scores import TestScores
from ser_kedro.self_evolution.progress import is_constant
from ser_kedro.store.references import TableRef
from ser_kedro.store.tables import read_table

# Below so many independent pairs an interval of a share is a matter of form: at one
# half it is 18 points to either side.
FEWEST = 30
# From here on the probability σ(difference) is exactly 1 in double precision.
CERTAIN = 37.0


def cautions(prompts: int, judged: int, pool: int) -> list[str]:
    """Say which sets of pairs are too small to say anything.

    Args:
        prompts: Prompt groups of the test pairs.
        judged: Labels that loops are compared on.
        pool: Pairs or prompts without labels.
    """
    found = []
    if prompts < FEWEST:
        found.append(
            f"Mind: the test pairs are of {_count(prompts, 'prompt')}; with fewer than"
            f" {FEWEST} no accuracy here means anything."
        )
    if judged < FEWEST:
        found.append(
            f"Mind: loops are compared on {_count(judged, 'label')}; with fewer than"
            f" {FEWEST} it is chance which model is kept."
        )
    if pool < FEWEST:
        found.append(
            f"Mind: the pool has {_count(pool, 'row')}; with fewer than {FEWEST} there"
            " is nothing to evolve on."
        )
    return found


def odd_outcomes(history: pd.DataFrame) -> list[str]:
    """Say where a selection selected nothing, and where a model ranks backwards.

    Args:
        history: ``evolution_history``.
    """
    found = []
    whole = history[(history["selected"] > 0) & (history["pool_left"] == 0)]
    if len(whole) and history["pool_left"].shift()[whole.index[0]] == 1:
        found.append(
            f"Mind: loop {whole['loop'].iloc[0]} selected the whole pool, so its"
            " thresholds told nothing apart."
        )
    kept = history[history["selected_model"]].iloc[0]
    if kept["test_accuracy_high"] < 0.5:  # not where it is not known
        found.append(
            f"Mind: the kept model ranks {100 * kept['test_accuracy']:.1f}% of the test"
            " pairs right, fewer than chance does; the labels of the test pairs or of"
            " the training pairs may be turned round."
        )
    return found


def odd_rewards(test_scores: TestScores, shown: Mapping[int, str]) -> list[str]:
    """Say which models give test pairs the same rewards, or rewards beyond measure.

    Args:
        test_scores: Test scores by loop.
        shown: Loops to look at, with what to call their models.
    """
    found = []
    for loop, name in shown.items():
        rewards = _rewards(test_scores.root[loop])
        gap = float(np.median(np.abs(np.diff(rewards))))
        if is_constant(rewards):
            found.append(
                f"Mind: {name} gives all responses the same reward; it ranks nothing,"
                " and its accuracy is that of ties."
            )
        elif gap > CERTAIN:
            found.append(
                f"Mind: the rewards of {name} differ by {gap:.3g} within a pair (the"
                f" median); above {CERTAIN:.0f} every probability is 0 or 1, as where a"
                " training has all but diverged."
            )
    return found


def _rewards(scores: TableRef) -> np.ndarray:
    """Return the rewards of both responses, shape ``(n, 2)``."""
    table = read_table(scores)
    return np.stack([table[n].to_numpy() for n in ("reward_a", "reward_b")], axis=1)


def _count(number: int, what: str) -> str:
    return f"one {what}" if number == 1 else f"{number} {what}s"
