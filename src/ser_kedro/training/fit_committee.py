"""Fit a committee to a store's tables, and say out of fold what it is worth."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from safetensors.torch import save_file

from ser_kedro.errors import DataError
from ser_kedro.models.backbone import hide_head, link_backbone
from ser_kedro.models.committee import save_views
from ser_kedro.models.features import HEAD, INDEX, FeatureRows, flipped
from ser_kedro.models.fit_calibration import calibrate_model, fit
from ser_kedro.models.head import find_all
from ser_kedro.models.params import View
from ser_kedro.store.json_io import read_json
from ser_kedro.store.references import AnyTable, TableRef
from ser_kedro.store.tables import read_table
from ser_kedro.training.batches import said_of
from ser_kedro.training.committee import (
    CrossFit,
    Floats,
    Pairs,
    choose_penalties,
    co_train,
    correlation_of_views,
    cross_fit,
    fit_members,
    folds_of,
    losses_of,
)
from ser_kedro.training.committee_params import CommitteeParams
from ser_kedro.training.params import RewardParams

logger = logging.getLogger(__name__)

_EPSILON = 1e-6
_EVEN = 0.5  # a label that prefers neither


def fit_committee(
    backbone: Path,
    features: Sequence[TableRef],
    pairs: Sequence[TableRef],
    pool: AnyTable | None,
    params: CommitteeParams,
    reward: RewardParams,
    seed: int,
    folder: Path,
) -> dict[str, float]:
    """Fit a committee and save it as a head on its views.

    Args:
        backbone: Folder of the frozen model.
        features: Of all the pairs below, with views.
        pairs: Tables of human labels.
        pool: Pairs without labels; ``None``: members learn from the labels alone.
        params: How.
        reward: How labels count, and whether a temperature is fitted.
        seed: Draws the folds and the part of the pool.
        folder: Where to save.

    Returns:
        What was measured out of fold: accuracies, log-losses, the choice.

    Raises:
        DataError: If there are too few labels to hold any out.
    """
    known = FeatureRows(features)
    tables = [read_table(table) for table in pairs]
    labelled = _Human.read(known, tables, len(reward.views), reward)
    groups = [group for table in tables for group in table["group"].to_pylist()]
    if len(set(groups)) < 2:
        raise DataError("committee: the human labels are of one prompt; it needs two")
    folds = folds_of(groups, params.folds, seed)
    sample = None
    if pool is not None and params.co_training != "never":
        sample = _differences(known, pool, len(reward.views), params.pool_limit, seed)
    human, spread = labelled.scaled()
    sample = None if sample is None else sample / spread
    penalties = choose_penalties(human, folds)
    found = cross_fit(human, sample, folds, penalties, params)
    taught, metrics = _choose(human, found, params)
    metrics["co_trained"] = float(taught)
    members, held_out = fit_members(human, penalties), found.plain
    if taught and sample is not None and found.co_trained is not None:
        members = co_train(human, sample, members, penalties, params)
        held_out = found.co_trained
    _save(members / spread / len(reward.views), backbone, reward.views, folder)
    both = labelled.features / spread / len(reward.views)
    unseen = np.einsum("nsvh,nvh->ns", both, held_out[folds])
    # Each fold's members have a zero of their own; the kept ones' is what counts.
    for fold in range(folds.max() + 1):
        unseen[folds == fold] -= unseen[folds == fold].mean()
    unseen += np.einsum("nsvh,vh->ns", both, members).mean()
    scale = calibrate_model(folder, *unseen.T, temperature=reward.fit_temperature)
    _say(metrics)
    return metrics | scale


@dataclass(frozen=True)
class _Human:
    """Human labels: features of both responses, ``(n, 2, v, h)``, and what they say."""

    features: Floats
    labels: Floats
    weights: Floats

    @classmethod
    def read(
        cls,
        known: FeatureRows,
        tables: Sequence[pa.Table],
        views: int,
        reward: RewardParams,
    ) -> _Human:
        parts = []
        for table in tables:
            taken = known.take(find_all(known, table), flipped(table), views=True)
            weights, labels, _ = said_of(table, reward)
            parts.append((taken.reshape(len(table), 2, views, -1), labels, weights))
        return cls(*(np.concatenate(each) for each in zip(*parts, strict=True)))

    def scaled(self) -> tuple[Pairs, Floats]:
        """Return differences of spread 1, and the spread, ``(v, h)``.

        The sign of a difference means nothing, so the spread is about zero. The pool
        has no say in it, so that members without the pool are the same beside it.
        """
        own = self.features[:, 0] - self.features[:, 1]
        spread: Floats = np.sqrt(np.mean(own**2, axis=0)) + _EPSILON
        return Pairs(own / spread, self.labels, self.weights), spread


def _differences(
    known: FeatureRows, pool: AnyTable, views: int, limit: int, seed: int
) -> Floats:
    table = read_table(pool)
    rows = np.random.default_rng(seed).permutation(len(table))[:limit]
    where, swapped = find_all(known, table)[rows], flipped(table)[rows]
    taken = known.take(where, swapped, views=True).reshape(len(rows), 2, views, -1)
    found: Floats = taken[:, 0] - taken[:, 1]
    return found


def _choose(
    human: Pairs, found: CrossFit, params: CommitteeParams
) -> tuple[bool, dict[str, float]]:
    """Say whether co-trained members are kept, and what was measured out of fold."""
    metrics = {"labels": float(len(human)), "folds": float(found.folds.max() + 1)}

    def losses(name: str, members: Floats) -> Floats:
        logits = found.logits(human.differences, members)
        scaled = _scaled_losses(human, logits)
        metrics.update(_measured(name, human, logits))
        metrics[f"{name}_log_loss"] = float(scaled.mean())
        return scaled

    votes = found.votes(human.differences, found.plain)
    alike = correlation_of_views(votes, human.labels)
    metrics |= {} if alike is None else {"views_correlation": alike}
    plain = losses("plain", found.plain)
    if found.co_trained is None:
        return False, metrics
    gains = plain - losses("co_trained", found.co_trained)
    error = float(np.std(gains, ddof=1) / np.sqrt(len(gains)))
    metrics |= {"pool_gain": float(gains.mean()), "pool_gain_error": error}
    helps = bool(gains.mean() > params.standard_errors * error)
    return params.co_training == "always" or helps, metrics


def _scaled_losses(human: Pairs, logits: Floats) -> Floats:
    """Return log-losses at the temperature that suits the votes best."""
    sign = np.where(human.labels >= _EVEN, 1.0, -1.0)
    scale = fit(sign * logits, np.zeros(len(logits)), temperature=True)
    return losses_of(human, logits / scale.temperature)


def _measured(name: str, human: Pairs, logits: Floats) -> dict[str, float]:
    right = (logits > 0) == (human.labels >= _EVEN)
    sure = np.argsort(-np.abs(logits))[: max(1, len(logits) // 2)]
    return {
        f"{name}_accuracy": float(right.mean()),
        f"{name}_accuracy_of_surer_half": float(right[sure].mean()),
    }


def _save(weights: Floats, backbone: Path, views: Sequence[View], folder: Path) -> None:
    """Write the members as one linear head on all views, the backbone beside it."""
    link_backbone(backbone, folder)
    hide_head(folder)
    row = torch.from_numpy(np.ascontiguousarray(weights, np.float32).reshape(1, -1))
    name = read_json(folder / INDEX)["metadata"]["head"]
    save_file({f"{name}.weight": row}, folder / HEAD, metadata={"format": "pt"})
    save_views(views, folder)


def _say(metrics: dict[str, float]) -> None:
    line = (
        f"Committee, out of fold on {metrics['labels']:.0f} labels:"
        f" {metrics['plain_accuracy']:.1%} right without the pool"
    )
    if "views_correlation" in metrics:
        line += f" (its views' votes correlate by {metrics['views_correlation']:.2f})"
    if "co_trained_accuracy" in metrics:
        line += (
            f", {metrics['co_trained_accuracy']:.1%} co-trained on it (of its surer"
            f" half {metrics['co_trained_accuracy_of_surer_half']:.1%}); the pool"
            f" gains {metrics['pool_gain']:+.4f} ± {metrics['pool_gain_error']:.4f}"
            " nats a pair"
        )
    logger.info("%s", line)
