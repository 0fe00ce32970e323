"""Features of a frozen model: what its head reads, computed once and kept."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import torch
from safetensors.torch import save_file
from tqdm import tqdm
from transformers import AutoConfig

from ser_kedro.models.half import keep_head_exact
from ser_kedro.models.params import Scoring
from ser_kedro.models.reward_model import head_name, load_reward_model
from ser_kedro.models.scorer import SHARD, Scorer
from ser_kedro.models.views import ViewScorer
from ser_kedro.store.json_io import read_json, write_json
from ser_kedro.store.references import AnyTable, TableRef
from ser_kedro.store.tables import Rows, map_table, read_table, write_table

BACKBONE = "backbone.safetensors"
HEAD = "head.safetensors"
INDEX = "model.safetensors.index.json"
SHARDS = "shards"
_COLUMNS = (("response_a", "response_b"), ("chosen", "rejected"))
# Of each side what the head reads, and its views.
_HEAD = ("first", "second")
_VIEWS = ("first_views", "second_views")
# Where a table of features says, in its schema, what they were computed by.
_BASIS = b"basis"


def save_backbone(start: Path, folder: Path) -> None:
    """Save a model as a classifier with a head of zeros, in a file of its own.

    Args:
        start: Folder of a language model, an encoder or a reward model.
        folder: Where to save.
    """
    model, tokenizer = load_reward_model(start, seed=0)
    name = head_name(model)
    head: Any = model.get_submodule(name)
    torch.nn.init.zeros_(head.weight)
    if head.bias is not None:
        torch.nn.init.zeros_(head.bias)
    files: dict[str, dict[str, torch.Tensor]] = {BACKBONE: {}, HEAD: {}}
    for key, value in model.state_dict().items():
        file = HEAD if key.startswith(f"{name}.") else BACKBONE
        files[file][key] = value.contiguous()
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


def write_features(
    backbone: Path,
    pairs: AnyTable,
    known: Sequence[TableRef],
    basis: str,
    scoring: Scoring,
    workspace: Path,
) -> TableRef:
    """Compute the features of a table's pairs; begun work is resumed.

    Args:
        backbone: Folder of ``save_backbone``.
        pairs: Any table of pairs.
        known: Tables of features, of any backbone, to copy from.
        basis: What the features are computed by; those of another are not copied.
        scoring: How the backbone is applied.
        workspace: A folder of this work alone.
    """
    schema = _schema(backbone, len(scoring.views)).with_metadata({_BASIS: basis})
    rows = FeatureRows([table for table in known if _basis(table) == basis])
    folder = workspace / SHARDS
    batches = _batches(backbone, pairs, rows, schema, scoring, folder)
    output = write_table(workspace, "features", batches, schema)
    shutil.rmtree(folder, ignore_errors=True)
    return output


def _batches(
    backbone: Path,
    pairs: AnyTable,
    known: FeatureRows,
    schema: pa.Schema,
    scoring: Scoring,
    folder: Path,
) -> Iterator[pa.RecordBatch]:
    table = read_table(pairs)
    found = known.find(table["pair_id"].to_pylist())
    scorer = _scorer(backbone, scoring) if (found < 0).any() else None
    rows = Rows(table)
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


def _scorer(backbone: Path, scoring: Scoring) -> Scorer:
    """Load the backbone with a head that returns its own input, and with views."""
    scorer = Scorer.load(backbone, scoring, finely=True)
    model: Any = scorer.model
    name = head_name(model)
    width = model.get_submodule(name).in_features
    handing_on = torch.nn.Linear(width, width, bias=False)
    torch.nn.init.eye_(handing_on.weight)
    model.set_submodule(name, handing_on.to(model.device))
    keep_head_exact(model)
    if scoring.views:
        return ViewScorer(**vars(scorer), views=scoring.views)
    return scorer


class FeatureRows:
    """Feature tables of one backbone, looked up by pair.

    Attributes:
        rows: All rows of all tables, read when they are used.
    """

    def __init__(self, tables: Sequence[TableRef]) -> None:
        """Open tables of ``FeaturesJob``."""
        opened = [read_table(table) for table in tables]
        self.table = pa.concat_tables(opened) if opened else None
        empty = pa.table({"pair_id": pa.array([], pa.string())})
        self.rows = Rows(empty if self.table is None else self.table)
        known = () if self.table is None else self.table.column_names
        self._sides = {
            sides: Rows(self.table.select(sides))
            for sides in (_HEAD, _VIEWS)
            if self.table is not None and set(sides) <= set(known)
        }
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

    def take(
        self, rows: np.ndarray, flipped: np.ndarray, *, views: bool = False
    ) -> np.ndarray:
        """Return features, shape ``(n, 2, width)``, float32.

        Args:
            rows: Rows, shape ``(n,)``.
            flipped: The pair's first response is the later one by its text, ``(n,)``.
            views: Return the views, one after the other, not what the head reads.
        """
        sides = _VIEWS if views else _HEAD
        batch = self._sides[sides].take(rows)
        both = np.stack(
            [
                batch[name]
                .flatten()
                .to_numpy(zero_copy_only=False)
                .reshape(len(rows), batch[name].type.list_size)
                for name in sides
            ],
            axis=1,
        )
        ordered = np.where(flipped[:, None, None], both[:, ::-1], both)
        return ordered.astype(np.float32, copy=False)


def flipped(table: pa.Table | pa.RecordBatch) -> np.ndarray:
    """Say of which pairs the first response is the later one by its text, ``(n,)``."""
    one, two = (table[name] for name in response_columns(table))
    return np.asarray(pc.greater(one, two).to_numpy(zero_copy_only=False), bool)


def response_columns(table: pa.Table | pa.RecordBatch) -> tuple[str, str]:
    """Return the names of a table's two responses."""
    return next(pair for pair in _COLUMNS if pair[0] in table.schema.names)


def _schema(backbone: Path, views: int) -> pa.Schema:
    width = read_json(backbone / INDEX)["metadata"]["features"]
    vector = pa.list_(pa.float32(), width)
    fields = [("pair_id", pa.string()), *((side, vector) for side in _HEAD)]
    if views:
        config = AutoConfig.from_pretrained(backbone)  # a folder  # nosec B615
        hidden = config.get_text_config().hidden_size
        # Views are many, and half precision is finer than the differences they show.
        several = pa.list_(pa.float16(), views * hidden)
        fields += [(side, several) for side in _VIEWS]
    return pa.schema([*fields, ("overlong", pa.bool_()), ("equal", pa.bool_())])


def _features(scorer: Scorer, batch: pa.RecordBatch, schema: pa.Schema) -> Any:
    columns = batch.select(["prompt", *response_columns(batch)]).to_pydict()
    prompts, *sides = columns.values()
    ordered = [sorted(pair) for pair in zip(*sides, strict=True)]
    encoded = scorer.encoder.pairs(prompts, *zip(*ordered, strict=True))
    # One at a time: beside others a pair's features would differ by rounding.
    outputs = np.concatenate([scorer.outputs([pair]) for pair in encoded])
    width = schema.field(_HEAD[0]).type.list_size
    vectors = [
        pa.FixedSizeListArray.from_arrays(
            pa.array(
                as_kept(schema.field(name).type.value_type, part[:, side].ravel())
            ),
            schema.field(name).type.list_size,
        )
        for names, part in (
            (_HEAD, outputs[..., :width]),
            (_VIEWS, outputs[..., width:]),
        )
        for side, name in enumerate(names)
        if name in schema.names
    ]
    flags = [
        pa.array([getattr(pair, name) for pair in encoded], pa.bool_())
        for name in ("overlong", "equal")
    ]
    return pa.RecordBatch.from_arrays(
        [batch["pair_id"], *vectors, *flags], schema=schema
    )


def as_kept(kind: pa.DataType, values: np.ndarray) -> np.ndarray:
    """Return numbers as a table of features keeps them, of the same shape."""
    limits = np.finfo(kind.to_pandas_dtype())
    return np.clip(values, limits.min, limits.max).astype(limits.dtype)


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


def _basis(table: TableRef) -> str:
    return (read_table(table).schema.metadata or {}).get(_BASIS, b"").decode()
