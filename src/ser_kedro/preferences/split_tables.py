"""Rows of collected pairs, and the tables that are written of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ser_kedro.preferences.checks import check_pairs
from ser_kedro.preferences.collect import Collected
from ser_kedro.preferences.keyed import chosen_first
from ser_kedro.preferences.schema import AUDIT, LABELED, PROMPTS, UNLABELED
from ser_kedro.store.tables import map_table, reorder

Build = Callable[[pa.RecordBatch, list[str]], pa.RecordBatch]


@dataclass(frozen=True)
class Rows:
    """Kept rows of one collected file: what is small enough to be held in memory.

    Attributes:
        table: All that was collected.
        indices: Which rows of it, int64 of shape ``(n,)``.
        ids: The identity of each, of length ``n``.
        soft_labels: P(chosen is better) of each, NaN if not known; shape ``(n,)``.
        groups: The prompt group of each, of length ``n``.
        annotators: Names of those who judged, of rows that stand for several.
    """

    table: pa.Table
    indices: NDArray[np.int64]
    ids: list[str]
    soft_labels: NDArray[np.float32]
    groups: list[str]
    annotators: dict[int, str]

    @classmethod
    def of(cls, collected: Collected, groups: list[str]) -> Self:
        """Return the rows of a file whose groups are known."""
        table, indices = map_table(collected.path), collected.indices
        return cls(
            table,
            indices,
            column(collected, "pair_id"),
            collected.soft_labels,
            groups,
            collected.annotators,
        )

    def only(self, rows: NDArray[np.int64]) -> Rows:
        """Return some of the rows, by their numbers."""
        ids, groups = [self.ids[i] for i in rows], [self.groups[i] for i in rows]
        return replace(
            self,
            indices=self.indices[rows],
            ids=ids,
            soft_labels=self.soft_labels[rows],
            groups=groups,
        )

    def known(self) -> Rows:
        """Return the rows of which a label is known."""
        return self.only(np.flatnonzero(~np.isnan(self.soft_labels)))

    def none(self) -> Rows:
        """Return no row."""
        return self.only(np.empty(0, np.int64))

    def distinct_prompts(self) -> Rows:
        """Return one row for each different prompt, identified by the prompt alone."""
        first: dict[str, int] = {}
        for row, prompt in enumerate(self._each_prompt()):
            text = json.dumps(prompt, sort_keys=True)
            first.setdefault(hashlib.sha256(text.encode()).hexdigest(), row)
        kept = self.only(np.fromiter(first.values(), np.int64, len(first)))
        return replace(kept, ids=list(first))

    def batches(self, build: Build, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """Yield what is built of the rows, checked against a schema."""
        done = 0
        for batch in reorder(self.table, self.indices):
            part = slice(done, done + batch.num_rows)
            said = self._with_labels(batch, part)
            built = build(said, self.groups[part])
            check_pairs(built, schema)
            yield built
            done += batch.num_rows

    def _with_labels(self, batch: pa.RecordBatch, part: slice) -> pa.RecordBatch:
        """Replace what a row said by what all its copies say."""
        if "soft_label" not in batch.schema.names:
            return batch
        alone = batch["annotators"].to_pylist()
        names = [
            self.annotators.get(int(row), name)
            for row, name in zip(self.indices[part], alone, strict=True)
        ]
        said = {
            "soft_label": pa.array(self.soft_labels[part], pa.float32()),
            "annotators": pa.array(names, pa.string()),
        }
        for name, values in said.items():
            place = batch.schema.get_field_index(name)
            batch = batch.set_column(place, name, values)
        return batch

    def _each_prompt(self) -> Iterator[list[dict[str, str]]]:
        for batch in reorder(self.table.select(["prompt"]), self.indices):
            yield from batch["prompt"].to_pylist()


def column(collected: Collected, name: str) -> list[str]:
    """Return a column of the kept rows."""
    kept = map_table(collected.path).select([name])
    batches = reorder(kept, collected.indices)
    return [value for batch in batches for value in batch[name].to_pylist()]


def labeled(batch: pa.RecordBatch, groups: list[str]) -> pa.RecordBatch:
    """Build rows of ``LABELED``."""
    names = [name for name in LABELED.names if name != "group"]
    columns = {"group": groups, **{name: batch[name] for name in names}}
    return pa.RecordBatch.from_pydict(columns, LABELED)


def prompts(batch: pa.RecordBatch, groups: list[str]) -> pa.RecordBatch:
    """Build rows of ``PROMPTS``."""
    columns = {"group": groups, "prompt": batch["prompt"]}
    return pa.RecordBatch.from_pydict(columns, PROMPTS)


@dataclass(frozen=True)
class Blinded:
    """Builds the rows of a pool, in which the order of the responses says nothing.

    Attributes:
        seed: Of the order.
    """

    seed: int

    def unlabeled(self, batch: pa.RecordBatch, groups: list[str]) -> pa.RecordBatch:
        """Build rows of ``UNLABELED``."""
        responses = [
            (chosen, rejected) if first else (rejected, chosen)
            for chosen, rejected, first in zip(
                batch["chosen"].to_pylist(),
                batch["rejected"].to_pylist(),
                self._chosen_first(batch),
                strict=True,
            )
        ]
        columns = {
            "pair_id": batch["pair_id"],
            "group": groups,
            "prompt": batch["prompt"],
            "response_a": [pair[0] for pair in responses],
            "response_b": [pair[1] for pair in responses],
            "source": batch["source"],
        }
        return pa.RecordBatch.from_pydict(columns, UNLABELED)

    def audit(self, batch: pa.RecordBatch, groups: list[str]) -> pa.RecordBatch:
        """Build rows of ``AUDIT``."""
        columns = {
            "pair_id": batch["pair_id"],
            "a_is_chosen": self._chosen_first(batch),
        }
        return pa.RecordBatch.from_pydict(columns, AUDIT)

    def _chosen_first(self, batch: pa.RecordBatch) -> list[bool]:
        names = ("pair_id", "chosen", "rejected")
        columns = [batch[name].to_pylist() for name in names]
        return [
            chosen_first(*row, seed=self.seed) for row in zip(*columns, strict=True)
        ]
