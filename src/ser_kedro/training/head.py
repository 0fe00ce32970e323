"""Train a head on features of a frozen model, in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import get_scheduler

from ser_kedro.errors import DataError
from ser_kedro.models.backbone import hide_head, link_backbone
from ser_kedro.models.encode import EncodingCount
from ser_kedro.models.features import HEAD, INDEX, FeatureRows, flipped
from ser_kedro.models.fit_calibration import calibrate_model
from ser_kedro.models.head import apply, find_all, linear_head, load_head, scale
from ser_kedro.models.reward_model import DEEP_HEAD, deep_head
from ser_kedro.store.json_io import read_json
from ser_kedro.store.references import AnyTable, ModelRef, TableRef
from ser_kedro.store.tables import read_table
from ser_kedro.training.batches import plan_steps, said_of
from ser_kedro.training.losses import check_finite, pair_losses
from ser_kedro.training.params import RewardParams


def train_head(
    start: ModelRef,
    backbone: ModelRef,
    features: Sequence[TableRef],
    pairs: Sequence[AnyTable],
    validation: TableRef,
    params: RewardParams,
    seed: int,
    workspace: Path,
) -> dict[str, float]:
    """Train a head and write a whole model to ``<workspace>/model``.

    Args:
        start: As of ``TrainHeadJob``.
        backbone: As there.
        features: As there.
        pairs: As there.
        validation: As there.
        params: As there.
        seed: As there.
        workspace: A folder of this training alone.

    Returns:
        What was measured: steps, losses, the calibration, counts of pairs.

    Raises:
        DataError: If there are no validation pairs, or no pair is left to train on.
        ModelError: If the loss or a reward became infinite or NaN.
    """
    if validation.rows == 0:
        raise DataError("reward model: there are no validation pairs")
    known = FeatureRows(features)
    table = read_table(validation)
    held_out = known.take(find_all(known, table), flipped(table))
    rows, counts = _rows(known, pairs, params)
    head, metrics = _train(start, known, rows, held_out, params, seed)
    folder = workspace / "model"
    _save(head, backbone, folder)
    rewards = apply(head, held_out).astype(np.float64)
    metrics |= calibrate_model(folder, *rewards.T, temperature=params.fit_temperature)
    return {**metrics, **counts.as_metrics()}


@dataclass(frozen=True)
class _Rows:
    """Where the features of ``n`` training pairs are, and how each pair counts."""

    index: np.ndarray
    swapped: np.ndarray
    weights: np.ndarray
    soft_labels: np.ndarray
    margins: np.ndarray


def _train(
    start: ModelRef,
    features: FeatureRows,
    rows: _Rows,
    held_out: np.ndarray,
    params: RewardParams,
    seed: int,
) -> tuple[nn.Module, dict[str, float]]:
    steps = plan_steps(np.ones(len(rows.index)), params.batch_size, params.epochs, seed)
    torch.manual_seed(seed)
    # Trained on centred features of one spread: one learning rate fits them all.
    centre = torch.from_numpy(held_out.mean((0, 1)))
    spread = torch.from_numpy(held_out.std((0, 1)) + 1e-6)
    head = _begin(start, centre, spread, params.head_width)
    optimizer = torch.optim.AdamW(
        head.parameters(), lr=params.learning_rate, weight_decay=params.weight_decay
    )
    schedule = get_scheduler(
        params.scheduler, optimizer, params.warmup_steps, len(steps)
    )
    losses = []
    for number, step in enumerate(steps, 1):
        taken = features.take(rows.index[step], rows.swapped[step])
        inputs = (torch.from_numpy(taken) - centre) / spread
        kept = nn.functional.dropout(inputs, params.dropout)
        rewards = head(kept).squeeze(-1)
        each = pair_losses(
            rewards[:, 0] - rewards[:, 1],
            kind=params.loss,
            hinge_margin=params.margin,
            soft_labels=torch.from_numpy(rows.soft_labels[step]),
            asked=torch.from_numpy(rows.margins[step]),
        )
        loss = (each * torch.from_numpy(rows.weights[step])).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(check_finite(loss.item(), "reward model", number))
    scale(head, -centre / spread, 1 / spread)
    metrics = {"steps": len(steps), "first_loss": losses[0], "last_loss": losses[-1]}
    return head, metrics


def _rows(
    features: FeatureRows, pairs: Sequence[AnyTable], params: RewardParams
) -> tuple[_Rows, EncodingCount]:
    parts = []
    for table in map(read_table, pairs):
        parts.append(
            (find_all(features, table), flipped(table), *said_of(table, params))
        )
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    overlong, equal = (features.flags(n, columns[0]) for n in ("overlong", "equal"))
    cut = overlong if params.overlong == "drop" else np.zeros_like(overlong)
    kept = ~cut & ~equal
    if not kept.any():
        raise DataError(f"reward model: none of {len(kept)} pairs is left")
    counts = EncodingCount(
        rows=len(kept),
        overlong=int(overlong.sum()),
        equal=int((equal & ~cut).sum()),
        kept=int(kept.sum()),
    )
    return _Rows(*(column[kept] for column in columns)), counts


def _begin(start: ModelRef, centre: Tensor, spread: Tensor, width: int | None) -> Any:
    """Return the head to train: the start's, linear zeros, or a new deep one."""
    if start.backbone is not None:
        return scale(load_head(start.location), centre, spread)
    if start.kind == "reward_model":  # ready when it was given
        return scale(linear_head(start.location), centre, spread)
    if width is not None:
        return deep_head(len(spread), width)
    linear = nn.Linear(len(spread), 1, bias=False)
    nn.init.zeros_(linear.weight)
    return linear


def _save(head: Any, backbone: ModelRef, folder: Path) -> None:
    link_backbone(backbone.location, folder)
    if isinstance(head, nn.Linear):
        weights = load_file(folder / HEAD)  # of zeros, with its bias if it has one
        name = read_json(folder / INDEX)["metadata"]["head"]
        weights[f"{name}.weight"] = head.weight.data
        save_file(weights, folder / HEAD, metadata={"format": "pt"})
        return
    save_file(head.state_dict(), folder / DEEP_HEAD)
    hide_head(folder)
