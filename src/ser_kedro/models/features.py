"""Features of a frozen model: what its head reads, computed once and kept."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ser_kedro.models.log_filters import quiet
from ser_kedro.models.scorer_job import ScorerJob
from ser_kedro.store import job_store as store
from ser_kedro.store.fingerprints import hash_folder
from ser_kedro.store.job import Job
from ser_kedro.store.json_io import read_json, write_json
from ser_kedro.store.references import AnyTable, ModelOutputs, ModelRef, TableRef
from ser_kedro.store.tables import Rows, map_table, read_table, write_table

if TYPE_CHECKING:
    from ser_kedro.models.scorer import Scorer

BACKBONE = "backbone.safetensors"
HEAD = "head.safetensors"
INDEX = "model.safetensors.index.json"
SHARDS = "shards"
_COLUMNS = (("response_a", "response_b"), ("chosen", "rejected"))
# Where a table of features says, in its schema, what they were computed by.
_BASIS = b"basis"
_ANY = TableRef(path="", fingerprint="", rows=0)


class BackboneJob(Job[ModelOutputs]):
    """Put a model's weights, its head's apart from the others, where heads share them.

    Models with equal weights give equal fingerprints, whatever made them.

    Attributes:
        start: A language model, an encoder or a reward model.
    """

    stage: ClassVar[str] = "backbone"
    libraries: ClassVar[tuple[str, ...]] = ("torch", "transformers", "safetensors")

    start: ModelRef

    @quiet()
    def work(self, workspace: Path) -> ModelOutputs:
        """Write ``model``: a classifier with a head of zeros, and its tokenizer."""
        import torch
        from safetensors.torch import save_file

        from ser_kedro.models.reward_model import head_name, load_reward_model

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
        made = ModelRef(
            kind="reward_model",
            path="model",
            fingerprint=hash_folder(folder)[:32],
            base_model=self.start.base_model,
        )
        return {"model": made}


class FeatureOutputs(TypedDict):
    """A table of features."""

    features: TableRef


class FeaturesJob(ScorerJob[FeatureOutputs]):
    """Compute what the head of a frozen model reads for each response of a table.

    Each pair has a forward pass of its own, its responses in the order of their text,
    so that its features depend on nothing else: neither on the pairs around it nor on
    what the store holds. Pairs that another table of the same backbone has are copied
    from there, which saves time and changes nothing.

    Attributes:
        model: From ``BackboneJob``.
        pairs: Any table of pairs.
    """

    stage: ClassVar[str] = "features"

    pairs: AnyTable

    @quiet()
    def work(self, workspace: Path) -> FeatureOutputs:
        """Write ``features``: a row a pair, in their order, responses by their text."""
        # A job that differs in its table alone has the same basis.
        basis = self.model_copy(update={"pairs": _ANY}).fingerprint
        width = read_json(self.model.location / INDEX)["metadata"]["features"]
        schema = _schema(width).with_metadata({_BASIS: basis})
        batches = self._batches(FeatureRows(_tables(basis)), schema, workspace / SHARDS)
        output = write_table(workspace, "features", batches, schema)
        shutil.rmtree(workspace / SHARDS, ignore_errors=True)
        return {"features": output}

    def _batches(
        self, known: FeatureRows, schema: pa.Schema, folder: Path
    ) -> Iterator[pa.RecordBatch]:
        from tqdm import tqdm

        from ser_kedro.models.scorer import SHARD

        pairs = read_table(self.pairs)
        found = known.find(pairs["pair_id"].to_pylist())
        scorer = self.scorer() if (found < 0).any() else None
        rows = Rows(pairs)
        folder.mkdir(exist_ok=True)
        with tqdm(total=len(found), desc="features", unit="pair", disable=None) as bar:
            for start in range(0, len(found), SHARD):
                shard = found[start : start + SHARD]
                file = folder / f"{start}.arrow"
                if not file.is_file():
                    parts = []
                    if (old := shard >= 0).any():
                        parts.append(known.rows.take(shard[old]))
                    if scorer is not None and not old.all():
                        new = rows.take(start + np.flatnonzero(~old))
                        parts.append(_features(scorer, new, schema))
                    batch = _merged(parts, old, schema)
                    part = write_table(folder, f"{start}.partial", [batch], schema)
                    (folder / part.path).rename(file)
                yield from map_table(file).to_batches()
                bar.update(len(shard))

    def scorer(self) -> Scorer:
        """Load the backbone, with a head that hands on what it reads."""
        import torch

        from ser_kedro.models.reward_model import head_name

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

    def __init__(self, tables: Sequence[TableRef]) -> None:
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
    prompts, *sides = columns.values()
    ordered = [sorted(pair) for pair in zip(*sides, strict=True)]
    encoded = scorer.encoder.pairs(prompts, *zip(*ordered, strict=True))
    # One at a time: beside others a pair's features would differ by rounding.
    outputs = np.concatenate([scorer.outputs([pair]) for pair in encoded])
    vectors = [
        pa.FixedSizeListArray.from_arrays(
            pa.array(outputs[:, side].reshape(-1)), schema.field("first").type.list_size
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


def _merged(
    parts: Sequence[pa.RecordBatch], old: np.ndarray, schema: pa.Schema
) -> pa.RecordBatch:
    """Return copied rows and new ones in the order of the pairs.

    Args:
        parts: The copied rows, where there are any, before the new ones.
        old: Which rows are copied, shape ``(n,)``.
        schema: Of the result.
    """
    joined = pa.concat_batches(parts)
    places = np.argsort(np.argsort(~old, kind="stable"), kind="stable")
    ordered = joined.take(pa.array(places))
    return pa.RecordBatch.from_arrays(ordered.columns, schema=schema)


def _tables(basis: str) -> list[TableRef]:
    """Return the finished feature tables of a basis."""
    results = (store.store_root() / FeaturesJob.stage).glob(f"*/{store.RESULT}")
    found = [
        TableRef.model_validate(read_json(result)["outputs"]["features"])
        for result in sorted(results)
    ]
    return [table for table in found if _basis(table) == basis]


def _basis(table: TableRef) -> str:
    return (read_table(table).schema.metadata or {}).get(_BASIS, b"").decode()
