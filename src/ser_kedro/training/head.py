"""Train a head on features of a frozen model, and score with it, in seconds."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa

from ser_kedro.errors import DataError
from ser_kedro.models.encode import EncodingCount
from ser_kedro.models.features import BACKBONE, HEAD, INDEX, FeatureRows, flipped
from ser_kedro.models.log_filters import quiet
from ser_kedro.models.score import SCORES, ScoreOutputs, score_batches
from ser_kedro.models.validation import calibrate_model
from ser_kedro.store.job import Job
from ser_kedro.store.json_io import read_json, write_json
from ser_kedro.store.references import AnyTable, ModelOutputs, ModelRef, TableRef
from ser_kedro.store.tables import read_table, write_table
from ser_kedro.training.params import RewardParams

if TYPE_CHECKING:
    from torch import Tensor, nn

# Features of one block that is scored at once.
_BLOCK = 4096


class TrainHeadJob(Job[ModelOutputs]):
    """Train the head alone, with the losses, weights and labels of full training.

    Attributes:
        start: What the head goes on from, if it is one on the same backbone.
        backbone: From ``BackboneJob``.
        features: Of all pairs below.
        pairs: As of ``TrainRewardJob``.
        validation: As there.
        params: As there.
        seed: Draws the order of the pairs, and a hidden layer's first weights.
    """

    stage: ClassVar[str] = "reward_model"
    libraries: ClassVar[tuple[str, ...]] = (
        "torch",
        "transformers",
        "safetensors",
        "scipy",
    )

    start: ModelRef
    backbone: ModelRef
    features: tuple[TableRef, ...]
    pairs: tuple[AnyTable, ...]
    validation: TableRef
    params: RewardParams
    seed: int

    @quiet()
    def work(self, workspace: Path) -> ModelOutputs:
        """Write ``model``: a folder as ``TrainRewardJob`` writes, weights shared."""
        if self.validation.rows == 0:
            raise DataError(f"{self.stage}: there are no validation pairs")
        features = FeatureRows(self.features)
        validation = _take_all(features, read_table(self.validation))
        head, metrics = self._train(features, validation)
        folder = workspace / "model"
        self._save(head, folder)
        rewards = _apply(head, validation).astype(np.float64)
        metrics |= calibrate_model(
            folder, *rewards.T, temperature=self.params.fit_temperature
        )
        made = ModelRef(
            kind="reward_model",
            path="model",
            fingerprint=self.fingerprint,
            base_model=self.start.base_model,
            metrics=metrics,
            backbone=self.backbone,
        )
        return {"model": made}

    def _train(
        self, features: FeatureRows, validation: np.ndarray
    ) -> tuple[nn.Module, dict[str, Any]]:
        import torch
        from transformers import get_scheduler

        from ser_kedro.training.batches import plan_steps
        from ser_kedro.training.losses import pair_losses

        rows, swapped, weights, soft_labels, counts = self._rows(features)
        steps = plan_steps(
            np.ones(len(rows)), self.params.batch_size, self.params.epochs, self.seed
        )
        torch.manual_seed(self.seed)
        # Trained on centred features of one spread: one learning rate fits them all.
        centre = torch.from_numpy(validation.mean((0, 1)))
        spread = torch.from_numpy(validation.std((0, 1)) + 1e-6)
        head = self._begin(centre, spread)
        optimizer = torch.optim.AdamW(
            head.parameters(),
            lr=self.params.learning_rate,
            weight_decay=self.params.weight_decay,
        )
        schedule = get_scheduler(
            self.params.scheduler, optimizer, self.params.warmup_steps, len(steps)
        )
        losses = []
        for step in steps:
            inputs = torch.from_numpy(features.take(rows[step], swapped[step]))
            inputs = (inputs - centre) / spread
            kept = torch.nn.functional.dropout(inputs, self.params.dropout)
            rewards = head(kept).squeeze(-1)
            each = pair_losses(
                rewards[:, 0] - rewards[:, 1],
                kind=self.params.loss,
                hinge_margin=self.params.margin,
                soft_labels=torch.from_numpy(soft_labels[step]),
            )
            loss = (each * torch.from_numpy(weights[step])).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        scale(head, -centre / spread, 1 / spread)
        metrics = {"steps": len(steps), "first_loss": losses[0]}
        return head, {**metrics, "last_loss": losses[-1], **counts}

    def _rows(
        self, features: FeatureRows
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, int]]:
        """Return rows, whether flipped, weights and soft labels, ``(n,)``, counts."""
        parts = []
        for table in map(read_table, self.pairs):
            numbers = [
                table[name].to_numpy().astype(np.float32)
                if name in table.column_names
                else np.ones(len(table), np.float32)
                for name in ("weight", "soft_label")
            ]
            parts.append((_find(features, table), flipped(table), *numbers))
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
        rows = columns[0]
        overlong, equal = (features.flags(n, rows) for n in ("overlong", "equal"))
        cut = overlong if self.params.overlong == "drop" else np.zeros_like(overlong)
        kept = ~cut & ~equal
        if not kept.any():
            raise DataError(f"{self.stage}: none of {len(rows)} pairs is left")
        counts = EncodingCount(
            rows=len(rows),
            overlong=int(overlong.sum()),
            equal=int((equal & ~cut).sum()),
            kept=int(kept.sum()),
        ).as_metrics()
        one, two, three, four = (column[kept] for column in columns)
        return one, two, three, four, counts

    def _begin(self, centre: Tensor, spread: Tensor) -> Any:
        """Return the head to train: the start's, linear zeros, or a new deep one."""
        import torch

        from ser_kedro.models.reward_model import deep_head

        if self.start.backbone is not None:
            return scale(load_head(self.start.location), centre, spread)
        if (width := self.params.head_width) is not None:
            return deep_head(len(spread), width)
        linear = torch.nn.Linear(len(spread), 1, bias=False)
        torch.nn.init.zeros_(linear.weight)
        return linear

    def _save(self, head: Any, folder: Path) -> None:
        import torch
        from safetensors.torch import load_file, save_file

        from ser_kedro.models.reward_model import DEEP_HEAD

        share(self.backbone.location, folder)
        if isinstance(head, torch.nn.Linear):
            weights = load_file(folder / HEAD)  # of zeros, with its bias if it has one
            name = read_json(folder / INDEX)["metadata"]["head"]
            weights[f"{name}.weight"] = head.weight.data
            save_file(weights, folder / HEAD, metadata={"format": "pt"})
            return
        # No loader but ours knows this head: others must say that one is missing.
        save_file(head.state_dict(), folder / DEEP_HEAD)
        (folder / HEAD).unlink()
        index = read_json(folder / INDEX)
        kept = {k: v for k, v in index["weight_map"].items() if v != HEAD}
        write_json(folder / INDEX, {**index, "weight_map": kept})


class ScoreHeadJob(Job[ScoreOutputs]):
    """As ``ScoreJob``, from features.

    Attributes:
        model: From ``TrainHeadJob``.
        features: Of the pairs.
        pairs: As of ``ScoreJob``.
        rows: As there.
    """

    stage: ClassVar[str] = "scores"
    libraries: ClassVar[tuple[str, ...]] = ("torch", "safetensors")

    model: ModelRef
    features: TableRef
    pairs: AnyTable
    rows: TableRef | None = None

    def work(self, workspace: Path) -> ScoreOutputs:
        """Write ``scores``: row, pair_id, reward_a, reward_b."""
        pairs = read_table(self.pairs)
        rows = np.arange(len(pairs))
        if self.rows is not None:
            rows = read_table(self.rows)["row"].to_numpy()
        features = FeatureRows((self.features,))
        where, swapped = _find(features, pairs)[rows], flipped(pairs)[rows]
        head = load_head(self.model.location)
        blocks = [np.empty((0, 2), np.float32)]
        for start in range(0, len(rows), _BLOCK):
            part = slice(start, start + _BLOCK)
            blocks.append(_apply(head, features.take(where[part], swapped[part])))
        scores = score_batches(pairs, rows, np.concatenate(blocks))
        return {"scores": write_table(workspace, "scores", scores, SCORES)}


def load_head(folder: Path) -> Any:
    """Return the head of a model that ``TrainHeadJob`` wrote."""
    import torch
    from safetensors.torch import load_file

    from ser_kedro.models.reward_model import DEEP_HEAD, deep_head

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


def scale(head: Any, shift: Tensor, factor: Tensor) -> Any:
    """Let a head give for ``x`` what it gave for ``shift + factor * x``.

    A linear head has no bias: its rewards move by a constant, which cancels.

    Args:
        head: From ``load_head``; changed in place.
        shift: Of shape ``(width,)``.
        factor: Of shape ``(width,)``.
    """
    from torch import nn

    layer = head if isinstance(head, nn.Linear) else head[0]
    if layer.bias is not None:
        layer.bias.data += layer.weight.data @ shift
    layer.weight.data *= factor
    return head


def share(source: Path, folder: Path) -> None:
    """Make ``folder`` of the files of ``source``, the large one linked, not copied."""
    folder.mkdir(exist_ok=True)
    for file in source.iterdir():
        copy = os.link if file.name == BACKBONE else shutil.copy
        (folder / file.name).unlink(missing_ok=True)
        copy(file, folder / file.name)


def _find(features: FeatureRows, table: pa.Table) -> np.ndarray:
    rows = features.find(table["pair_id"].to_pylist())
    if (rows < 0).any():
        raise DataError(
            f"features: {int((rows < 0).sum())} of {len(rows)} pairs have none; they"
            " are of another table"
        )
    return rows


def _take_all(features: FeatureRows, table: pa.Table) -> np.ndarray:
    return features.take(_find(features, table), flipped(table))


def _apply(head: Any, features: np.ndarray) -> np.ndarray:
    import torch

    with torch.inference_mode():
        rewards: np.ndarray = head(torch.from_numpy(features)).squeeze(-1).numpy()
    return rewards
