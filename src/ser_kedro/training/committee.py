"""A committee: one regularised pairwise logistic model for each view of the texts.

Everything is linear in differences of features, so a member is a vector, its vote on a
pair is a logit, and the mean of the votes is the vote of one long vector. Shapes: ``n``
pairs, ``v`` views of ``h`` numbers each.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ser_kedro.models.calibration import log_losses
from ser_kedro.training.committee_params import CommitteeParams

Floats = NDArray[Any]
# Of the mean loss a pair; features have a spread of 1.
PENALTIES = tuple(float(p) for p in np.logspace(-2, 3, 11))
_ITERATIONS = 200


@dataclass(frozen=True)
class Pairs:
    """Labelled pairs as differences of features.

    Attributes:
        differences: The first response's features minus the second's, ``(n, v, h)``.
        labels: Probability that the first is the better one, ``(n,)``, in [0, 1].
        weights: How much each pair counts, ``(n,)``.
    """

    differences: Floats
    labels: Floats
    weights: Floats

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.labels)

    def take(self, rows: NDArray) -> Pairs:
        """Return some of the pairs."""
        return Pairs(self.differences[rows], self.labels[rows], self.weights[rows])


@dataclass(frozen=True)
class CrossFit:
    """Votes of members that have not seen the pairs they vote on.

    Attributes:
        plain: Weights of each fold's members, ``(folds, v, h)``, without the pool.
        co_trained: The same after co-training; ``None`` where there was none.
        folds: The fold of each pair, ``(n,)``.
    """

    plain: Floats
    co_trained: Floats | None
    folds: NDArray

    def logits(self, differences: Floats, members: Floats) -> Floats:
        """Return the mean vote on each pair by the members of its fold, ``(n,)``."""
        return self.votes(differences, members).mean(1)

    def votes(self, differences: Floats, members: Floats) -> Floats:
        """Return the vote of each member of a pair's fold, ``(n, v)``."""
        found: Floats = np.einsum("nvh,nvh->nv", differences, members[self.folds])
        return found


def correlation_of_views(votes: Floats, labels: Floats) -> float | None:
    """Return how alike views err: the mean correlation of two views' votes.

    Votes count for what people said (an even label: for the first response), so that no
    correlation comes of the label itself. Co-training is proven where views are
    independent given the label, so that there is none (Blum and Mitchell, 1998).

    Args:
        votes: Of members that have not seen the pairs, shape ``(n, v)``.
        labels: As of ``Pairs``.

    Returns:
        In [-1, 1]; ``None`` of one view, or where a view votes alike on all pairs.
    """
    towards = votes * np.where(labels >= 0.5, 1.0, -1.0)[:, None]
    if votes.shape[1] < 2 or not towards.std(0).all():
        return None
    found = np.corrcoef(towards, rowvar=False)
    return float(found[np.triu_indices_from(found, 1)].mean())


def fit_member(
    differences: Floats, labels: Floats, weights: Floats, penalty: float
) -> Floats:
    """Fit one member: minimise the mean log-loss plus ``penalty / 2 * |w|**2``.

    Args:
        differences: Of one view, shape ``(n, h)``.
        labels: As of ``Pairs``.
        weights: As there.
        penalty: Of the squared weights.

    Returns:
        Weights, shape ``(h,)``.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    # A soft label is a pair counted on both sides; every second row is turned round,
    # which changes nothing and shows the library both classes.
    sign = np.where(np.arange(len(labels)) % 2 == 0, 1.0, -1.0)
    rows = differences * sign[:, None]
    first = (sign > 0).astype(int)
    sides = [(first, weights * labels), (1 - first, weights * (1 - labels))]
    counted = [(y, w, w > 0) for y, w in sides]
    model = LogisticRegression(
        C=1 / (penalty * weights.sum()), fit_intercept=False, max_iter=_ITERATIONS
    )
    x = np.concatenate([rows[some] for _, _, some in counted])
    y = np.concatenate([y[some] for y, _, some in counted])
    w = np.concatenate([w[some] for _, w, some in counted])
    if len(np.unique(y)) < 2:  # a single pair, or as good as
        x, y, w = np.concatenate([x, -x]), np.concatenate([y, 1 - y]), np.tile(w, 2) / 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x, y, sample_weight=w)
    weights_found: Floats = model.coef_[0]
    return weights_found


def fit_members(pairs: Pairs, penalties: Sequence[float]) -> Floats:
    """Fit a member for each view; shape ``(v, h)``."""
    return np.stack(
        [
            fit_member(pairs.differences[:, view], pairs.labels, pairs.weights, penalty)
            for view, penalty in enumerate(penalties)
        ]
    )


def choose_penalties(pairs: Pairs, folds: NDArray) -> list[float]:
    """Return for each view the penalty with the least log-loss out of fold."""
    chosen = []
    for view in range(pairs.differences.shape[1]):
        x = pairs.differences[:, view]
        losses = []
        for penalty in PENALTIES:
            logits = np.empty(len(pairs))
            for fold in np.unique(folds):
                out, rest = folds == fold, folds != fold
                member = fit_member(
                    x[rest], pairs.labels[rest], pairs.weights[rest], penalty
                )
                logits[out] = x[out] @ member
            losses.append(np.average(losses_of(pairs, logits), weights=pairs.weights))
        chosen.append(PENALTIES[int(np.argmin(losses))])
    return chosen


def losses_of(pairs: Pairs, logits: Floats) -> Floats:
    """Return the log-loss of each pair, in nats, shape ``(n,)``."""
    return pairs.labels * log_losses(logits) + (1 - pairs.labels) * log_losses(-logits)


def co_train(
    pairs: Pairs,
    pool: Floats,
    members: Floats,
    penalties: Sequence[float],
    params: CommitteeParams,
) -> Floats:
    """Let each member label the pairs it is sure of for its partner (co-training).

    In each round every member is fitted anew on the human labels and its partner's,
    hard ones of the surest part of the pool, which count as much in all as the human
    ones do (Blum and Mitchell, 1998, with views that share a network).

    Args:
        pairs: Human labels.
        pool: Differences of pairs without labels, ``(m, v, h)``.
        members: As ``fit_members`` gives them for the pairs.
        penalties: Of each view.
        params: Rounds, and the share of the pool.

    Returns:
        Weights, shape ``(v, h)``.
    """
    views = len(members)
    count = int(params.share * len(pool))
    if count == 0:
        return members
    for _ in range(params.rounds):
        votes = np.einsum("mvh,vh->mv", pool, members)
        taught = []
        for view, penalty in enumerate(penalties):
            # Far apart in depth: near layers see nearly the same.
            vote = votes[:, (view + views // 2) % views]
            sure = np.argsort(-np.abs(vote), kind="stable")[:count]
            own = pairs.weights.sum() / count
            taught.append(
                fit_member(
                    np.concatenate([pairs.differences[:, view], pool[sure, view]]),
                    np.concatenate([pairs.labels, (vote[sure] > 0).astype(float)]),
                    np.concatenate([pairs.weights, np.full(count, own)]),
                    penalty,
                )
            )
        members = np.stack(taught)
    return members


def cross_fit(
    pairs: Pairs,
    pool: Floats | None,
    folds: NDArray,
    penalties: Sequence[float],
    params: CommitteeParams,
) -> CrossFit:
    """Fit the committee once for each fold, on the labels of all others.

    Args:
        pairs: Human labels.
        pool: As of ``co_train``; ``None``: no co-training.
        folds: The fold of each pair, ``(n,)``, from 0.
        penalties: Of each view.
        params: Of co-training.
    """
    plain, taught = [], []
    for fold in range(int(folds.max()) + 1):
        rest = pairs.take(np.flatnonzero(folds != fold))
        plain.append(fit_members(rest, penalties))
        if pool is not None:
            taught.append(co_train(rest, pool, plain[-1], penalties, params))
    return CrossFit(np.stack(plain), np.stack(taught) if taught else None, folds)


def folds_of(groups: Sequence[str], count: int, seed: int) -> NDArray:
    """Return the fold of each pair: equal groups share one, and folds are of like size.

    Args:
        groups: Prompt group of each pair.
        count: Folds; fewer where there are fewer groups.
        seed: Draws which groups go together.

    Returns:
        Shape ``(n,)``, from 0.
    """
    names, where, sizes = np.unique(
        np.asarray(groups), return_inverse=True, return_counts=True
    )
    order = np.random.default_rng(seed).permutation(len(names))
    order = order[np.argsort(-sizes[order], kind="stable")]
    count = min(count, len(names))
    filled, fold = np.zeros(count, int), np.empty(len(names), int)
    for name in order:
        fold[name] = np.argmin(filled)
        filled[fold[name]] += sizes[name]
    found: NDArray = fold[where]
    return found
