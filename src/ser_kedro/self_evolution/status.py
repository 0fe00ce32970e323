"""Learning status: which pairs a loop may learn from.

After "Self-Evolved Reward Learning for LLMs" (arXiv 2411.00418), section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import ceil

import numpy as np
from numpy.typing import NDArray

from ser_kedro.self_evolution.params import SelectionParams

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
    CONFIDENT = "sure"
    """Tell apart what the model is sure about, whatever the single responses' σ(r)."""
    STOP = "stop"
    """Too few pairs qualify."""


@dataclass(frozen=True)
class Selection:
    """What a loop takes out of its pool.

    Attributes:
        status: The loop's status.
        chosen: Indices of the selected pairs, ascending, shape ``(m,)``.
        a_preferred: The model prefers response a, shape ``(m,)``.
        confidence: Probability that the preferred response is the better one, in
            [0.5, 1], shape ``(m,)``.
        easy: Pairs that qualify for status 1.
        hard: Pairs that qualify for status 2.
        needed: Pairs that had to qualify.
    """

    status: Status
    chosen: Integers
    a_preferred: Booleans
    confidence: Floats
    easy: int
    hard: int
    needed: int


def qualifies_easy(p_a: Floats, p_b: Floats, params: SelectionParams) -> Booleans:
    """Say which pairs qualify for status 1: one good response, one bad.

    Args:
        p_a: Calibrated probabilities σ(r) of responses a, in [0, 1], shape ``(n,)``.
        p_b: The same of responses b.
        params: The thresholds.
    """
    high = np.maximum(p_a, p_b) > params.tau_high
    low = np.minimum(p_a, p_b) < params.tau_low
    return high & low


def qualifies_hard(p_a: Floats, p_b: Floats, params: SelectionParams) -> Booleans:
    """Say which pairs qualify for status 2: probabilities far enough apart.

    Arguments as of ``qualifies_easy``. A tie has no preferred response and never
    qualifies.
    """
    return (np.abs(p_a - p_b) >= params.tau_delta) & (p_a != p_b)


def preference(p_a: Floats, p_b: Floats) -> Floats:
    """Return the probability that response a is the better one, in [0, 1].

    That of Bradley and Terry, ``σ(logit p_a - logit p_b)``; arguments as of
    ``qualifies_easy``.
    """
    for_a, for_b = p_a * (1 - p_b), p_b * (1 - p_a)
    both = for_a + for_b
    return np.divide(for_a, both, out=np.full(len(both), 0.5), where=both > 0)


def qualifies_sure(confidence: Floats, params: SelectionParams) -> Booleans:
    """Say which pairs the model is sure about: above a threshold, or the surest ones.

    Args:
        confidence: Probability of the preferred side, in [0.5, 1], shape ``(n,)``. A
            tie, 0.5, never qualifies.
        params: ``status_rule`` and its threshold or share.
    """
    if params.status_rule == "probability":
        return confidence > params.tau_preferred
    sure = np.zeros(len(confidence), bool)
    sure[_surest(confidence, ceil(round(params.quantile * len(confidence), 6)))] = True
    return sure & (confidence > 0.5)


def balanced(mask: Booleans, confidence: Floats, strata: Integers) -> Booleans:
    """Leave as many pairs of each stratum as the one with the fewest has.

    Args:
        mask: Pairs that qualify, shape ``(n,)``.
        confidence: Of all pairs, shape ``(n,)``; the surest stay.
        strata: Number of each pair's stratum, shape ``(n,)``.
    """
    members = [np.flatnonzero(mask & (strata == s)) for s in np.unique(strata)]
    size = min(map(len, members), default=0)
    kept = np.zeros(len(mask), bool)
    for rows in members:
        kept[rows[_surest(confidence[rows], size)]] = True
    return kept


def _surest(confidence: Floats, count: int) -> Integers:
    return np.argsort(-confidence, kind="stable")[:count]


def pairs_needed(pool: int, params: SelectionParams) -> int:
    """Return how many of ``pool`` pairs must qualify for a status to be taken."""
    # Not 8 of 100 for a share of 0.07, whose product is a hair above 7.
    return max(params.min_count, ceil(round(params.min_share * pool, 6)))


def decide_status(
    easy: int,
    hard: int,
    either: int,
    *,
    sure: int = 0,
    pool: int,
    loop: int,
    params: SelectionParams,
) -> Status:
    """Decide a loop's status from the numbers of pairs that qualify.

    Args:
        easy: Pairs that qualify for status 1.
        hard: Pairs that qualify for status 2.
        either: Pairs that qualify for one or both.
        sure: Pairs that qualify by their confidence alone.
        pool: Pairs in the loop's pool.
        loop: Number of the loop, from 1.
        params: The rule and its counts.
    """
    needed = pairs_needed(pool, params)
    if params.status_rule == "per_pair":
        return Status.PER_PAIR if either >= needed else Status.STOP
    if params.status_rule in ("quantile", "probability"):
        return Status.CONFIDENT if sure >= needed else Status.STOP
    if params.status_rule == "schedule":
        wanted = params.schedule[min(loop, len(params.schedule)) - 1]
        enough = (easy if wanted == 1 else hard) >= needed
        return Status(str(wanted)) if enough else Status.STOP
    if easy >= needed:
        return Status.EASY
    return Status.HARD if hard >= needed else Status.STOP


def select(
    p_a: Floats,
    p_b: Floats,
    *,
    loop: int,
    params: SelectionParams,
    strata: Integers | None = None,
) -> Selection:
    """Select the pairs that a loop learns from, and label them.

    Args:
        p_a: Calibrated probabilities of responses a, shape ``(n,)``.
        p_b: The same of responses b.
        loop: Number of the loop, from 1.
        params: The rule and its thresholds.
        strata: What is to be balanced: a number for each pair, shape ``(n,)``;
            ``None``: nothing.

    Returns:
        The selection; empty under ``Status.STOP``. Swapping the responses of a pair
        swaps ``a_preferred`` of that pair and changes nothing else.
    """
    for_a = preference(p_a, p_b)
    confidence = np.maximum(for_a, preference(p_b, p_a))
    easy = qualifies_easy(p_a, p_b, params)
    hard = qualifies_hard(p_a, p_b, params)
    sure = qualifies_sure(confidence, params)
    counts = int(easy.sum()), int(hard.sum()), int((easy | hard).sum())
    status = decide_status(
        *counts, sure=int(sure.sum()), pool=len(p_a), loop=loop, params=params
    )
    mask = {
        Status.EASY: easy,
        Status.HARD: hard,
        Status.PER_PAIR: easy | hard,
        Status.CONFIDENT: sure,
        Status.STOP: np.zeros(len(p_a), bool),
    }[status]
    if strata is not None:
        mask = balanced(mask, confidence, strata)
        status = status if mask.any() else Status.STOP
    chosen = np.flatnonzero(mask)
    return Selection(
        status=status,
        chosen=chosen,
        a_preferred=p_a[chosen] > p_b[chosen],
        confidence=confidence[chosen],
        easy=counts[0],
        hard=counts[1],
        needed=pairs_needed(len(p_a), params),
    )
