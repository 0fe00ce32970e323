"""The job that turns raw preference data into the tables of the project."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypedDict, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import (
    Field,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    field_serializer,
)

from ser_kedro.preferences.collect import Collected, collect
from ser_kedro.preferences.records import DropReason
from ser_kedro.preferences.schema import AUDIT, LABELED, PROMPTS, UNLABELED
from ser_kedro.preferences.source import Part as SourcePart
from ser_kedro.preferences.source import PreferenceSource
from ser_kedro.preferences.split import (
    IN_TEST_SET,
    Assignment,
    Part,
    SplitParams,
    assign,
    check_enough,
    chosen_first,
    shuffled,
)
from ser_kedro.store.job import Job
from ser_kedro.store.references import DocumentRef, TableRef
from ser_kedro.store.tables import map_table, reorder, write_document, write_table

Build = Callable[[pa.RecordBatch, list[str]], pa.RecordBatch]


@dataclass(frozen=True)
class _Rows:
    """Kept rows of one collected file: what is small enough to be held in memory."""

    table: pa.Table
    indices: NDArray[np.int64]
    ids: list[str]
    groups: list[str]

    def only(self, rows: NDArray[np.int64]) -> _Rows:
        ids, groups = [self.ids[i] for i in rows], [self.groups[i] for i in rows]
        return _Rows(self.table, self.indices[rows], ids, groups)

    def batches(self, build: Build, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        # Pandera takes a second to import, which only a split needs.
        from ser_kedro.preferences.checks import check_pairs

        done = 0
        for batch in reorder(self.table, self.indices):
            built = build(batch, self.groups[done : done + batch.num_rows])
            check_pairs(built, schema)
            yield built
            done += batch.num_rows


class SplitOutputs(TypedDict):
    """The parts of the data, and what happened to the rows."""

    sft_pairs: TableRef
    labeled_pairs: TableRef
    validation_pairs: TableRef
    unlabeled_pairs: TableRef
    audit_labels: TableRef
    test_pairs: TableRef
    ppo_prompts: TableRef
    data_report: DocumentRef


class SplitJob(Job[SplitOutputs]):
    """Split preference data by prompt, and take the labels off the pool.

    Attributes:
        source: Where the raw pairs are from. In the job's fingerprint it counts by its
            content, not by its place.
        params: The shares.
        seed: Of every random choice.
    """

    stage: ClassVar[str] = "data_split"
    libraries: ClassVar[tuple[str, ...]] = ("datasketch", "numpy", "pyarrow")

    source: PreferenceSource
    params: SplitParams = SplitParams()
    seed: int = Field(default=0, ge=0)

    @field_serializer("source", mode="wrap")
    def _serialize_source(
        self,
        value: PreferenceSource,
        handler: SerializerFunctionWrapHandler,
        info: SerializationInfo,
    ) -> Any:
        if info.context and info.context.get("identity"):
            return value.identity
        return handler(value)

    @property
    def title(self) -> str:
        """What it does, for the log."""
        return "Read and split the preference pairs"

    def work(self, workspace: Path) -> SplitOutputs:
        """Read, check, group, assign and write; nothing large is held in memory.

        Args:
            workspace: A folder of this job alone.

        Returns:
            ``sft_pairs``, ``labeled_pairs``, ``validation_pairs``, ``test_pairs``,
            ``unlabeled_pairs``, ``audit_labels``, ``ppo_prompts`` and the document
            ``data_report``, which says what happened to the rows.

        Raises:
            DataError: If the data cannot be read, or a part of it would be empty.
        """
        train = self._collect("train", workspace)
        test = self._collect("test", workspace) if self.source.has_test else None
        assignment = assign(
            _prompt_keys(train),
            params=self.params,
            seed=self.seed,
            test_keys=None if test is None else _prompt_keys(test),
        )
        rows = _rows(train, assignment.groups)
        tests = None if test is None else _rows(test, assignment.test_groups)
        tables = self._write(workspace, rows, tests, assignment)
        report = _report(train, test, assignment, tables)
        for collected in (train, test):
            if collected is not None:
                collected.path.unlink()
        document = write_document(workspace, "data_report", report)
        return cast("SplitOutputs", {**tables, "data_report": document})

    def _collect(self, part: SourcePart, workspace: Path) -> Collected:
        return collect(self.source, part, workspace, self.params.max_bad_rows)

    def _write(
        self, workspace: Path, train: _Rows, test: _Rows | None, assignment: Assignment
    ) -> dict[str, TableRef]:
        parts: dict[Part, _Rows] = {
            "sft": train.only(assignment.rows("sft")),
            "labeled": train.only(assignment.rows("labeled")),
            "validation": train.only(assignment.rows("validation")),
            "unlabeled": train.only(assignment.rows("unlabeled")),
            "ppo": train.only(assignment.rows("ppo")),
            "test": test or train.only(assignment.rows("test")),
        }
        check_enough({part: len(rows.ids) for part, rows in parts.items()})
        tables: dict[str, tuple[_Rows, pa.Schema, Build]] = {
            f"{part}_pairs": (parts[part], LABELED, _labeled)
            for part in ("sft", "labeled", "validation", "test")
        }
        pool = parts["unlabeled"]
        tables["unlabeled_pairs"] = (pool, UNLABELED, self._unlabeled)
        tables["audit_labels"] = (pool, AUDIT, self._audit)
        tables["ppo_prompts"] = (_distinct_prompts(parts["ppo"]), PROMPTS, _prompts)
        return {
            name: write_table(
                workspace,
                name,
                self._in_order(name, rows).batches(build, schema),
                schema,
            )
            for name, (rows, schema, build) in tables.items()
        }

    def _in_order(self, table: str, rows: _Rows) -> _Rows:
        return rows.only(shuffled(rows.ids, seed=self.seed, table=table))

    def _chosen_first(self, batch: pa.RecordBatch) -> list[bool]:
        names = ("pair_id", "chosen", "rejected")
        columns = [batch[name].to_pylist() for name in names]
        return [
            chosen_first(*row, seed=self.seed) for row in zip(*columns, strict=True)
        ]

    def _unlabeled(self, batch: pa.RecordBatch, groups: list[str]) -> pa.RecordBatch:
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

    def _audit(self, batch: pa.RecordBatch, groups: list[str]) -> pa.RecordBatch:
        columns = {
            "pair_id": batch["pair_id"],
            "a_is_chosen": self._chosen_first(batch),
        }
        return pa.RecordBatch.from_pydict(columns, AUDIT)


def _labeled(batch: pa.RecordBatch, groups: list[str]) -> pa.RecordBatch:
    names = [name for name in LABELED.names if name != "group"]
    columns = {"group": groups, **{name: batch[name] for name in names}}
    return pa.RecordBatch.from_pydict(columns, LABELED)


def _prompts(batch: pa.RecordBatch, groups: list[str]) -> pa.RecordBatch:
    columns = {"group": groups, "prompt": batch["prompt"]}
    return pa.RecordBatch.from_pydict(columns, PROMPTS)


def _each_prompt(
    table: pa.Table, indices: NDArray[np.int64]
) -> Iterator[list[dict[str, str]]]:
    for batch in reorder(table.select(["prompt"]), indices):
        yield from batch["prompt"].to_pylist()


def _prompt_keys(collected: Collected) -> list[str]:
    keys = map_table(collected.path).select(["key"])
    batches = reorder(keys, collected.indices)
    return [key for batch in batches for key in batch["key"].to_pylist()]


def _rows(collected: Collected, groups: list[str]) -> _Rows:
    table = map_table(collected.path)
    batches = reorder(table.select(["pair_id"]), collected.indices)
    ids = [name for batch in batches for name in batch["pair_id"].to_pylist()]
    return _Rows(table, collected.indices, ids, groups)


def _distinct_prompts(rows: _Rows) -> _Rows:
    """Return one row for each different prompt, identified by the prompt alone."""
    first: dict[str, int] = {}
    for row, prompt in enumerate(_each_prompt(rows.table, rows.indices)):
        text = json.dumps(prompt, sort_keys=True)
        first.setdefault(hashlib.sha256(text.encode()).hexdigest(), row)
    kept = rows.only(np.fromiter(first.values(), np.int64, len(first)))
    return _Rows(kept.table, kept.indices, list(first), kept.groups)


def _report(
    train: Collected,
    test: Collected | None,
    assignment: Assignment,
    tables: dict[str, TableRef],
) -> dict[str, Any]:
    in_test = int((assignment.parts == IN_TEST_SET).sum())
    rows = {"train": _account(train, in_test)}
    if test is not None:
        rows["test"] = _account(test, 0)
    sizes = {name: table.rows for name, table in tables.items()}
    labels = {part: sizes[f"{part}_pairs"] for part in ("labeled", "validation", "sft")}
    return {
        "rows": rows,
        "tables": sizes,
        "prompt_groups": assignment.prompt_groups,
        "near_copies_joined": assignment.distinct_prompts - assignment.prompt_groups,
        # SFT spends the labels of its pairs too if it learns the preferred answers.
        "human_labels": labels,
    }


def _account(collected: Collected, in_test_set: int) -> dict[str, Any]:
    dropped = {str(reason): count for reason, count in collected.dropped.items()}
    if in_test_set:
        dropped[str(DropReason.in_test_set)] = in_test_set
    return {
        "read": collected.read,
        "kept": collected.kept - in_test_set,
        "dropped": dropped,
        "examples": [list(example) for example in collected.examples],
    }
