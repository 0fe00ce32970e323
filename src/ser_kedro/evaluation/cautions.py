"""Warnings where the numbers of a run say nothing."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ser_kedro.evaluation.test_scores import TestScores
from ser_kedro.store.references import TableRef
from ser_kedro.store.tables import read_table

# Below so many independent pairs an interval of a share is a matter of form: at one
# half it is 18 points to either side.
FEWEST = 30


def cautions(prompts: int, judged: int) -> list[str]:
    """Say which sets of pairs are too small to tell models apart.

    Args:
        prompts: Prompt groups of the test pairs.
        judged: Labels that loops are compared on.
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
    return found


def constant(test_scores: TestScores, shown: Mapping[int, str]) -> list[str]:
    """Say which models give every response of the test pairs the same reward.

    Args:
        test_scores: Test scores by loop.
        shown: Loops to look at, with what to call their models.
    """
    return [
        f"Mind: {name} gives all responses the same reward; it ranks nothing, and its"
        " accuracy is that of ties."
        for loop, name in shown.items()
        if _is_constant(test_scores.root[loop])
    ]


def _is_constant(scores: TableRef) -> bool:
    table = read_table(scores)
    rewards = np.concatenate([table[n].to_numpy() for n in ("reward_a", "reward_b")])
    return bool(np.ptp(rewards) == 0)


def _count(number: int, what: str) -> str:
    return f"one {what}" if number == 1 else f"{number} {what}s"
