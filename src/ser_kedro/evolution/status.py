"""Learning status: which pairs a loop may learn from.

After "Self-Evolved Reward Learning for LLMs" (arXiv 2411.00418), section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import ceil

import numpy as np
from numpy.typing import NDArray

from ser_kedro.evolution.params import EvolutionParams

Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]
Integers = NDArray[np.int64]


class Status(StrEnum):
    """What a loop learns."""

    EASY = "1"
    """Tell good responses from bad ones."""
    HARD = "2"
    """Tell apart responses of similar quality."""
    PER_PAIR = "1|2"
    """Whichever a pair qualifies for."""
    STOP = "stop"
    """Too few pairs qualify."""


@dataclass(frozen=True)
class Selection:
    """What a loop takes out of its pool.

    Attributes:
        status: The loop's status.
        chosen: Indices of the selected pairs, ascending, shape ``(m,)``.
        a_preferred: The model prefers response a, shape ``(m,)``.
        easy: Pairs that qualify for status 1.
        hard: Pairs that qualify for status 2.
        needed: Pairs that had to qualify.
    """

    status: Status
    chosen: Integers
    a_preferred: Booleans
    easy: int
    hard: int
    needed: int


def qualifies_easy(p_a: Floats, p_b: Floats, params: EvolutionParams) -> Booleans:
    """Say which pairs qualify for status 1: one good response, one bad.

    Args:
        p_a: Calibrated probabilities σ(r) of responses a, in [0, 1], shape ``(n,)``.
        p_b: The same of responses b.
        params: The thresholds.
    """
    high = np.maximum(p_a, p_b) > params.tau_high
    low = np.minimum(p_a, p_b) < params.tau_low
    return high & low


def qualifies_hard(p_a: Floats, p_b: Floats, params: EvolutionParams) -> Booleans:
    """Say which pairs qualify for status 2: probabilities far enough apart.

    Arguments as of ``qualifies_easy``. A tie has no preferred response and never
    qualifies.
    """
    return (np.abs(p_a - p_b) >= params.tau_delta) & (p_a != p_b)


def pairs_needed(pool: int, params: EvolutionParams) -> int:
    """Return how many of ``pool`` pairs must qualify for a status to be taken."""
    # Not 8 of 100 for a share of 0.07, whose product is a hair above 7.
    return max(params.min_count, ceil(round(params.min_share * pool, 6)))


def decide_status(
    easy: int, hard: int, either: int, *, pool: int, loop: int, params: EvolutionParams
) -> Status:
    """Decide a loop's status from the numbers of pairs that qualify.

    Args:
        easy: Pairs that qualify for status 1.
        hard: Pairs that qualify for status 2.
        either: Pairs that qualify for one or both.
        pool: Pairs in the loop's pool.
        loop: Number of the loop, from 1.
        params: The rule and its counts.
    """
    needed = pairs_needed(pool, params)
    if params.status_rule == "per_pair":
        return Status.PER_PAIR if either >= needed else Status.STOP
    if params.status_rule == "schedule":
        wanted = params.schedule[min(loop, len(params.schedule)) - 1]
        enough = (easy if wanted == 1 else hard) >= needed
        return Status(str(wanted)) if enough else Status.STOP
    if easy >= needed:
        return Status.EASY
    return Status.HARD if hard >= needed else Status.STOP


def select(
    p_a: Floats, p_b: Floats, *, loop: int, params: EvolutionParams
) -> Selection:
    """Select the pairs that a loop learns from, and label them.

    Args:
        p_a: Calibrated probabilities of responses a, shape ``(n,)``.
        p_b: The same of responses b.
        loop: Number of the loop, from 1.
        params: The rule and its thresholds.

    Returns:
        The selection; empty under ``Status.STOP``. Swapping the responses of a pair
        swaps ``a_preferred`` of that pair and changes nothing else.
    """
    easy = qualifies_easy(p_a, p_b, params)
    hard = qualifies_hard(p_a, p_b, params)
    counts = int(easy.sum()), int(hard.sum()), int((easy | hard).sum())
    status = decide_status(*counts, pool=len(p_a), loop=loop, params=params)
    masks = {
        Status.EASY: easy,
        Status.HARD: hard,
        Status.PER_PAIR: easy | hard,
        Status.STOP: np.zeros(len(p_a), bool),
    }
    chosen = np.flatnonzero(masks[status])
    return Selection(
        status=status,
        chosen=chosen,
        a_preferred=p_a[chosen] > p_b[chosen],
        easy=counts[0],
        hard=counts[1],
        needed=pairs_needed(len(p_a), params),
    )
