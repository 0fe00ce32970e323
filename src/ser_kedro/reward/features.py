"""Features of a frozen model: what its head reads, computed once and kept."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ser_kedro.launch import store
from ser_kedro.launch.files import hash_folder
from ser_kedro.launch.job import Job, Output
from ser_kedro.launch.json import read_json, write_json
from ser_kedro.launch.reference import NOTHING, Reference
from ser_kedro.launch.table import Rows, map_table, read_table, write_table
from ser_kedro.reward.quiet import quiet
from ser_kedro.reward.scorer_job import ScorerJob

if TYPE_CHECKING:
    from ser_kedro.reward.scorer import Scorer

BACKBONE = "backbone.safetensors"
HEAD = "head.safetensors"
INDEX = "model.safetensors.index.json"
SHARDS = "shards"
_COLUMNS = (("response_a", "response_b"), ("chosen", "rejected"))


class BackboneJob(Job):
    """Put a model's weights, its head's apart from the others, where heads share them.

    Models with equal weights give equal fingerprints, whatever made them.

    Attributes:
        start: A language model, an encoder or a reward model.
    """

    stage: ClassVar[str] = "backbone"
    libraries: ClassVar[tuple[str, ...]] = ("torch", "transformers", "safetensors")

    start: Reference

    @quiet()
    def work(self, workspace: Path) -> dict[str, Output]:
        """Write ``model``: a classifier with a head of zeros, and its tokenizer."""
        import torch
        from safetensors.torch import save_file

        from ser_kedro.reward.model import head_name, load_reward_model

        model, tokenizer = load_reward_model(self.start.location, seed=0)
        name = head_name(model)
        head = model.get_submodule(name)
        torch.nn.init.zeros_(head.weight)
        if head.bias is not None:
            torch.nn.init.zeros_(head.bias)
        files: dict[str, dict[str, torch.Tensor]] = {BACKBONE: {}, HEAD: {}}
        for key, value in model.state_dict().items():
            file = HEAD if key.startswith(f"{name}.") else BACKBONE
            files[file][key] = value.contiguous()
        folder = workspace / "model"
        model.config.architectures = [type(model).__name__]
        model.config.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        for file, weights in files.items():
            save_file(weights, folder / file, metadata={"format": "pt"})
        index = {
            "metadata": {"head": name, "features": head.in_features},
            "weight_map": {key: file for file in files for key in files[file]},
        }
        write_json(folder / INDEX, index)
        return {
            "model": Output(
                kind="reward_model",
                file="model",
                digest=hash_folder(folder)[:32],
                base_model=self.start.base_model,
            )
        }


class FeaturesJob(ScorerJob):
    """Compute what the head of a frozen model reads for each response of a table.

    Pairs that another table of the same backbone has are copied from there.

    Attributes:
        model: From ``BackboneJob``.
        pairs: Any table of pairs.
    """

    stage: ClassVar[str] = "features"

    pairs: Reference

    def work(self, workspace: Path) -> dict[str, Output]:
        """Write ``features``: one row a pair, the responses in order of their text."""
        # A job that differs in its table alone has the same basis.
        basis = self.model_copy(update={"pairs": NOTHING}).fingerprint
        pairs = read_table(self.pairs)
        known = FeatureRows(_tables(basis))
        found = known.find(pairs["pair_id"].to_pylist())
        new = np.flatnonzero(found < 0)
        width = read_json(self.model.location / INDEX)["metadata"]["features"]
        schema = _schema(width)

        def batches() -> Iterator[pa.RecordBatch]:
            from ser_kedro.reward.scorer import SHARD

            old = found[found >= 0]
            for start in range(0, len(old), SHARD):
                yield known.rows.take(old[start : start + SHARD])
            yield from self._compute(Rows(pairs), new, schema, workspace / SHARDS)

        metrics = {"basis": basis, "copied": len(pairs) - len(new)}
        output = write_table(workspace, "features", batches(), schema, metrics)
        shutil.rmtree(workspace / SHARDS, ignore_errors=True)
        return {"features": output}

    @quiet()
    def _compute(
        self, pairs: Rows, rows: np.ndarray, schema: pa.Schema, folder: Path
    ) -> Iterator[pa.RecordBatch]:
        from tqdm import tqdm

        from ser_kedro.reward.scorer import SHARD

        if not len(rows):
            return
        folder.mkdir(exist_ok=True)
        scorer = self.scorer()
        with tqdm(total=len(rows), desc="features", unit="pair", disable=None) as bar:
            for start in range(0, len(rows), SHARD):
                shard = rows[start : start + SHARD]
                file = folder / f"{start}.arrow"
                if not file.is_file():
                    batch = _features(scorer, pairs.take(shard), schema)
                    part = write_table(folder, f"{start}.partial", [batch], schema)
                    (folder / part.file).rename(file)
                yield from map_table(file).to_batches()
                bar.update(len(shard))

    def scorer(self) -> Scorer:
        """Load the backbone, with a head that hands on what it reads."""
        import torch

        from ser_kedro.reward.model import head_name

        scorer = super().scorer()
        model: Any = scorer.model
        name = head_name(model)
        width = model.get_submodule(name).in_features
        handing_on = torch.nn.Linear(width, width, bias=False)
        torch.nn.init.eye_(handing_on.weight)
        model.set_submodule(name, handing_on.to(model.device))
        return scorer


class FeatureRows:
    """Feature tables of one backbone, looked up by pair.

    Attributes:
        rows: All rows of all tables, read when they are used.
    """

    def __init__(self, tables: Sequence[Reference]) -> None:
        """Open tables of ``FeaturesJob``."""
        import pandas as pd

        opened = [read_table(table) for table in tables]
        self.table = pa.concat_tables(opened) if opened else None
        empty = pa.table({"pair_id": pa.array([], pa.string())})
        self.rows = Rows(empty if self.table is None else self.table)
        names = [name for each in opened for name in each["pair_id"].to_pylist()]
        where = pd.Series(np.arange(len(names)), index=names, dtype=np.int64)
        self._where = where[~where.index.duplicated()]

    def find(self, pair_ids: list[str]) -> np.ndarray:
        """Return the row of each pair, shape ``(n,)``; -1 where it is not there."""
        found = self._where.reindex(pair_ids, fill_value=-1)
        return found.to_numpy(np.int64)

    def flags(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Return ``overlong`` or ``equal`` at ``rows``, shape ``(n,)``."""
        assert self.table is not None
        column = self.table[name].to_numpy()
        return np.asarray(column[rows], bool)

    def take(self, rows: np.ndarray, flipped: np.ndarray) -> np.ndarray:
        """Return features, shape ``(n, 2, width)``, float32.

        Args:
            rows: Rows, shape ``(n,)``.
            flipped: The pair's first response is the later one by its text, ``(n,)``.
        """
        batch = self.rows.take(rows)
        both = np.stack(
            [
                batch[name]
                .flatten()
                .to_numpy(zero_copy_only=False)
                .reshape(len(rows), -1)
                for name in ("first", "second")
            ],
            axis=1,
        )
        return np.where(flipped[:, None, None], both[:, ::-1], both)


def flipped(table: pa.Table | pa.RecordBatch) -> np.ndarray:
    """Say of which pairs the first response is the later one by its text, ``(n,)``."""
    one, two = (table[name] for name in response_columns(table))
    return np.asarray(pc.greater(one, two).to_numpy(zero_copy_only=False), bool)


def response_columns(table: pa.Table | pa.RecordBatch) -> tuple[str, str]:
    """Return the names of a table's two responses."""
    return next(pair for pair in _COLUMNS if pair[0] in table.schema.names)


def _schema(width: int) -> pa.Schema:
    vector = pa.list_(pa.float32(), width)
    return pa.schema(
        [
            ("pair_id", pa.string()),
            ("first", vector),
            ("second", vector),
            ("overlong", pa.bool_()),
            ("equal", pa.bool_()),
        ]
    )


def _features(scorer: Scorer, batch: pa.RecordBatch, schema: pa.Schema) -> Any:
    columns = batch.select(["prompt", *response_columns(batch)]).to_pydict()
    encoded = scorer.encoder.pairs(*columns.values())
    outputs = scorer.outputs(encoded)
    swapped = flipped(batch)
    ordered = np.where(swapped[:, None, None], outputs[:, ::-1], outputs)
    vectors = [
        pa.FixedSizeListArray.from_arrays(
            pa.array(ordered[:, side].reshape(-1)), schema.field("first").type.list_size
        )
        for side in (0, 1)
    ]
    flags = [
        pa.array([getattr(pair, name) for pair in encoded], pa.bool_())
        for name in ("overlong", "equal")
    ]
    return pa.RecordBatch.from_arrays(
        [batch["pair_id"], *vectors, *flags], schema=schema
    )


def _tables(basis: str) -> list[Reference]:
    """Return the finished feature tables of a basis."""
    results = (store.store_root() / FeaturesJob.stage).glob(f"*/{store.RESULT}")
    found = [
        Reference.model_validate(read_json(result)["outputs"]["features"])
        for result in sorted(results)
    ]
    return [table for table in found if table.metrics["basis"] == basis]
