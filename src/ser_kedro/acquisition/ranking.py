"""What a label would teach, and which pairs to ask for: pure functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ser_kedro.acquisition.spread import k_center

if TYPE_CHECKING:
    from scipy.sparse import csr_array

# k-centre chooses among so many times the pairs that are wanted. A larger number gives
# pairs that differ more, and score less.
CANDIDATES = 5

Numbers = NDArray[np.int64]
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Ranking:
    """Pairs to label, in the order in which they are to be asked for.

    Attributes:
        rows: Their numbers, of shape ``(n,)``.
        random: Which of them were drawn at random, of shape ``(n,)``.
    """

    rows: Numbers
    random: NDArray[np.bool_]


def margin_scores(probabilities: Values) -> Values:
    """Return how undecided the mean voter is, in [0, 1]; 1 where it is one half.

    Args:
        probabilities: That ``response_a`` is the better one, shape ``(voters, n)``.
    """
    return 1 - np.abs(2 * probabilities.mean(0) - 1)


def disagreement_scores(probabilities: Values) -> Values:
    """Return what a label would say about the voters (BALD), in [0, log 2] nats.

    That is the entropy of the mean probability less the mean of the entropies: 0 where
    all voters say the same, however unsure they are (Houlsby et al., 2011).

    Args:
        probabilities: That ``response_a`` is the better one, shape ``(voters, n)``.
    """
    known = _entropy(probabilities).mean(0)
    return np.maximum(0.0, _entropy(probabilities.mean(0)) - known)


def no_scores(probabilities: Values) -> Values:
    """Prefer no pair: all of them score 0."""
    return np.zeros(probabilities.shape[1])


def _entropy(probabilities: Values) -> Values:
    from scipy.special import entr

    return np.asarray(entr(probabilities) + entr(1 - probabilities))


def rank(
    scores: Values,
    groups: Numbers,
    order: Numbers,
    *,
    count: int,
    random_share: float,
    embed: Callable[[Numbers], csr_array] | None = None,
    known: int = 0,
) -> Ranking:
    """Choose pairs, one of each group, and put them in order.

    First the random ones are drawn from all pairs; then the others are taken from the
    rest, the highest scores first. The random ones are spread evenly over the result,
    so that whoever stops early has about the same share of them.

    With ``embed`` the others are chosen by greedy k-centre, and in its order, among
    ``CANDIDATES`` times as many of the highest scores. What is known and the random
    ones are its first centres; without any, it starts from the highest score.

    Args:
        scores: What is preferred, higher first, shape ``(n,)``.
        groups: Of each pair its group, shape ``(n,)``.
        order: A random permutation of the pairs, shape ``(n,)``; it draws the random
            ones and breaks ties.
        count: Pairs at most.
        random_share: Share of the result that is random, in [0, 1].
        embed: Given numbers of pairs, shape ``(m,)``, at least one, returns a matrix of
            shape ``(known + m, width)``: first what has a label, then these pairs.
        known: How many have a label.
    """
    drawn = _first_of_each(order, groups)
    total = min(count, len(drawn))
    drawn = drawn[: round(random_share * total)]
    rest = order[~np.isin(groups[order], groups[drawn])]
    best = _first_of_each(rest[np.argsort(-scores[rest], kind="stable")], groups)
    wanted = total - len(drawn)
    if embed is not None and wanted:
        candidates = best[: CANDIDATES * wanted]
        embeddings = embed(np.concatenate([drawn, candidates]))
        centres = known + len(drawn)
        best = candidates[k_center(embeddings, wanted, centres) - centres]
    random = np.zeros(total, bool)
    random[_evenly(len(drawn), total)] = True
    rows = np.empty(total, np.int64)
    rows[random], rows[~random] = drawn, best[:wanted]
    return Ranking(rows, random)


def _first_of_each(order: Numbers, groups: Numbers) -> Numbers:
    """Return an order without the later members of each group."""
    _, first = np.unique(groups[order], return_index=True)
    return order[np.sort(first)]


def _evenly(count: int, total: int) -> Numbers:
    """Return ``count`` different places below ``total``, evenly apart."""
    return ((np.arange(count) + 0.5) * total / max(1, count)).astype(np.int64)
