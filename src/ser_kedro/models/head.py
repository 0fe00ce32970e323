"""Heads on features of a frozen model: load them, scale them, score with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ser_kedro.errors import DataError
from ser_kedro.models.committee import VIEWS, load_views
from ser_kedro.models.features import HEAD, INDEX, FeatureRows, flipped
from ser_kedro.models.reward_model import (
    DEEP_HEAD,
    deep_head,
    head_name,
    load_reward_model,
)
from ser_kedro.models.scores import write_scores
from ser_kedro.store.json_io import read_json
from ser_kedro.store.references import AnyTable, TableRef
from ser_kedro.store.tables import read_table

# Features of one block that is scored at once.
_BLOCK = 4096


def score_with_head(
    folder: Path,
    features: TableRef,
    pairs: AnyTable,
    rows: TableRef | None,
    workspace: Path,
    *,
    member: int | None = None,
) -> TableRef:
    """Score pairs by their features; write a table of ``SCORES``.

    Args:
        folder: The model's folder.
        features: Of all the pairs.
        pairs: A table of pairs.
        rows: A table whose column ``row`` names the rows to score; ``None``: all.
        workspace: Where to write.
        member: As of ``ScoreHeadJob``.
    """
    table = read_table(pairs)
    chosen = np.arange(len(table))
    if rows is not None:
        chosen = read_table(rows)["row"].to_numpy()
    known = FeatureRows((features,))
    where, swapped = find_all(known, table)[chosen], flipped(table)[chosen]
    head, views = load_head(folder), (folder / VIEWS).is_file()
    if member is not None:
        _let_one_vote(head, member, len(load_views(folder)))
    blocks = [np.empty((0, 2), np.float32)]
    for start in range(0, len(chosen), _BLOCK):
        part = slice(start, start + _BLOCK)
        taken = known.take(where[part], swapped[part], views=views)
        blocks.append(apply(head, taken))
    return write_scores(workspace, table, chosen, np.concatenate(blocks))


def _let_one_vote(head: Any, member: int, members: int) -> None:
    """Give all the votes of a committee, whose head is their mean, to one member."""
    weights = head.weight.data.reshape(members, -1)
    alone = torch.zeros_like(weights)
    alone[member] = members * weights[member]
    head.weight.data = alone.reshape(1, -1)


def load_head(folder: Path) -> Any:
    """Return the head of a model that was trained on features, or of a committee."""
    if (folder / DEEP_HEAD).is_file():
        weights = load_file(folder / DEEP_HEAD)
        width, features = weights["0.weight"].shape
        head: Any = deep_head(features, width)
        head.load_state_dict(weights)
        return head
    name = read_json(folder / INDEX)["metadata"]["head"]
    weight = load_file(folder / HEAD)[f"{name}.weight"]
    linear = torch.nn.Linear(weight.shape[1], 1, bias=False)
    linear.weight.data = weight
    return linear


def linear_head(folder: Path) -> Any:
    """Return the linear head of any reward model's folder, without its constant."""
    model, _ = load_reward_model(folder, seed=0)
    weight: Any = model.get_submodule(head_name(model)).weight
    linear = nn.Linear(weight.shape[1], 1, bias=False)
    linear.weight.data = weight.detach()
    return linear


def scale(head: Any, shift: Tensor, factor: Tensor) -> Any:
    """Let a head give for ``x`` what it gave for ``shift + factor * x``.

    A linear head has no bias: its rewards move by a constant, which cancels.

    Args:
        head: From ``load_head``; changed in place.
        shift: Of shape ``(width,)``.
        factor: Of shape ``(width,)``.
    """
    layer = head if isinstance(head, nn.Linear) else head[0]
    if layer.bias is not None:
        layer.bias.data += layer.weight.data @ shift
    layer.weight.data *= factor
    return head


def find_all(features: FeatureRows, table: pa.Table) -> np.ndarray:
    """Return the row of each pair's features, shape ``(n,)``.

    Raises:
        DataError: If some pairs have none.
    """
    rows = features.find(table["pair_id"].to_pylist())
    if (rows < 0).any():
        raise DataError(
            f"features: {int((rows < 0).sum())} of {len(rows)} pairs have no"
            " features: they come from a different table"
        )
    return rows


def apply(head: Any, features: np.ndarray) -> np.ndarray:
    """Return what a head gives for features ``(n, 2, width)``, shape ``(n, 2)``."""
    with torch.inference_mode():
        rewards: np.ndarray = head(torch.from_numpy(features)).squeeze(-1).numpy()
    return rewards
