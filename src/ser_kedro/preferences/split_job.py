"""The job that turns raw preference data into the tables of the project."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, TypedDict, cast

import numpy as np
from pydantic import (
    Field,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    field_serializer,
)

from ser_kedro.errors import DataError
from ser_kedro.preferences.collect import Collected, collect
from ser_kedro.preferences.keyed import shuffled
from ser_kedro.preferences.records import DropReason
from ser_kedro.preferences.schema import AUDIT, LABELED, PROMPTS, UNLABELED
from ser_kedro.preferences.source import Part as SourcePart
from ser_kedro.preferences.source import PreferenceSource
from ser_kedro.preferences.split import (
    IN_TEST_SET,
    IN_VALIDATION_SET,
    Assignment,
    Part,
    SplitParams,
    assign,
    check_enough,
)
from ser_kedro.store.job import Job
from ser_kedro.store.references import DocumentRef, TableRef
from ser_kedro.store.tables import write_document, write_table


class SplitOutputs(TypedDict):
    """The parts of the data, and what happened to the rows."""

    sft_pairs: TableRef
    labeled_pairs: TableRef
    validation_pairs: TableRef
    unlabeled_pairs: TableRef
    pool_prompts: TableRef
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
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "pyarrow", "scipy")

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
            ``ppo_prompts``; of the pool ``unlabeled_pairs`` or, where it has no
            answers, ``pool_prompts``; ``audit_labels``; and the document
            ``data_report``, which says what happened to the rows.

        Raises:
            DataError: If the data cannot be read, or a part of it would be empty.
        """
        # Pandera takes a second to import, which only a split needs.
        from ser_kedro.preferences import split_tables
        from ser_kedro.preferences.data_report import data_report

        collected = {
            part: collect(self.source, part, workspace, self.params.max_bad_rows)
            for part in self.source.parts
        }
        if "pool" in collected:
            collected["pool"] = _not_labelled(collected["pool"], collected["train"])
        keys = {
            part: split_tables.column(found, "key") for part, found in collected.items()
        }
        assignment = assign(
            keys["train"],
            params=self.params,
            seed=self.seed,
            test_keys=keys.get("test"),
            pair_ids=split_tables.column(collected["train"], "pair_id"),
            pool_keys=keys.get("pool"),
        )
        tables = self._write(workspace, collected, assignment)
        if "pool" in collected:
            collected["pool"] = collected["pool"].less(_held_out(assignment))
        report = data_report(self.source, collected, assignment, tables)
        for found in collected.values():
            found.path.unlink()
        document = write_document(workspace, "data_report", report)
        return cast("SplitOutputs", {**tables, "data_report": document})

    def _write(
        self,
        workspace: Path,
        collected: dict[SourcePart, Collected],
        assignment: Assignment,
    ) -> dict[str, TableRef]:
        from ser_kedro.preferences.split_tables import Blinded, Rows, labeled, prompts

        train = Rows.of(collected["train"], assignment.groups)
        names: tuple[Part, ...] = ("sft", "labeled", "validation", "ppo", "test")
        parts = {part: train.only(assignment.rows(part)) for part in names}
        if "test" in collected:
            parts["test"] = Rows.of(collected["test"], assignment.test_groups)
        pool, lone = train.only(assignment.rows("unlabeled")), train.none()
        if (given := collected.get("pool")) is not None:
            rows = Rows.of(given, assignment.pool_groups).only(assignment.pool_rows())
            pool, lone = (rows.none(), rows) if given.prompts_alone else (rows, lone)
            _check_pool(len(rows.ids), given)
        sizes = {str(part): len(rows.ids) for part, rows in parts.items()}
        sizes["unlabeled"] = len(pool.ids) + len(lone.ids)
        check_enough(sizes, assignment)
        blinded = Blinded(self.seed)
        tables = {
            f"{part}_pairs": (parts[part], LABELED, labeled)
            for part in ("sft", "labeled", "validation", "test")
        }
        tables["unlabeled_pairs"] = (pool, UNLABELED, blinded.unlabeled)
        tables["pool_prompts"] = (lone, PROMPTS, prompts)
        tables["audit_labels"] = (pool.known(), AUDIT, blinded.audit)
        tables["ppo_prompts"] = (parts["ppo"].distinct_prompts(), PROMPTS, prompts)
        return {
            name: write_table(
                workspace,
                name,
                # Each table has an order of its own.
                rows.only(shuffled(rows.ids, seed=self.seed, table=name)).batches(
                    build, schema
                ),
                schema,
            )
            for name, (rows, schema, build) in tables.items()
        }


def _not_labelled(pool: Collected, train: Collected) -> Collected:
    """Take the pairs out of the pool that have a label already."""
    from ser_kedro.preferences.split_tables import column

    known = set(column(train, "pair_id"))
    new = np.array([name not in known for name in column(pool, "pair_id")], bool)
    return pool.only(new, DropReason.already_labelled)


def _held_out(assignment: Assignment) -> dict[str, int]:
    """Return the rows of the pool whose prompts are held out, by reason."""
    reasons = {
        DropReason.in_test_set: IN_TEST_SET,
        DropReason.in_validation_set: IN_VALIDATION_SET,
    }
    return {
        reason.value: int((assignment.pool_parts == number).sum())
        for reason, number in reasons.items()
    }


def _check_pool(left: int, pool: Collected) -> None:
    if not left:
        raise DataError(
            f"all {pool.kept} rows of the pool are out: their prompts are in the test"
            " set or among the labelled pairs that are held out; give other prompts"
        )
