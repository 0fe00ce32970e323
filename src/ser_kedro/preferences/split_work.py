"""Preference data are read, split and written as the tables of the project."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ser_kedro.errors import DataError
from ser_kedro.preferences.collect import Collected, collect
from ser_kedro.preferences.data_report import data_report
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
from ser_kedro.preferences.split_tables import (
    Blinded,
    Rows,
    column,
    labeled,
    prompts,
)
from ser_kedro.store.references import DocumentRef, TableRef
from ser_kedro.store.tables import write_document, write_table


def write_split(
    source: PreferenceSource, params: SplitParams, seed: int, workspace: Path
) -> tuple[dict[str, TableRef], DocumentRef]:
    """Read, check, group, assign and write; nothing large is held in memory.

    Args:
        source: As of ``SplitJob``.
        params: As there.
        seed: As there.
        workspace: Where to write.

    Returns:
        The tables by name, and the document ``data_report``.

    Raises:
        DataError: If the data cannot be read, or a part of it would be empty.
    """
    collected = {
        part: collect(source, part, workspace, params.max_bad_rows)
        for part in source.parts
    }
    if "pool" in collected:
        collected["pool"] = _not_labelled(collected["pool"], collected["train"])
    keys = {part: column(found, "key") for part, found in collected.items()}
    assignment = assign(
        keys["train"],
        params=params,
        seed=seed,
        test_keys=keys.get("test"),
        pair_ids=column(collected["train"], "pair_id"),
        pool_keys=keys.get("pool"),
    )
    tables = _write(workspace, collected, assignment, params, seed)
    if "pool" in collected:
        collected["pool"] = collected["pool"].less(_held_out(assignment))
    report = data_report(source, collected, assignment, tables)
    for found in collected.values():
        found.path.unlink()
    document = write_document(workspace, "data_report", report)
    return tables, document


def _write(
    workspace: Path,
    collected: dict[SourcePart, Collected],
    assignment: Assignment,
    params: SplitParams,
    seed: int,
) -> dict[str, TableRef]:
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
    if params.validation == "crossfit":  # no label is held out
        del sizes["validation"]
    sizes["unlabeled"] = len(pool.ids) + len(lone.ids)
    check_enough(sizes, assignment)
    blinded = Blinded(seed)
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
            rows.only(shuffled(rows.ids, seed=seed, table=name)).batches(build, schema),
            schema,
        )
        for name, (rows, schema, build) in tables.items()
    }


def _not_labelled(pool: Collected, train: Collected) -> Collected:
    """Take the pairs out of the pool that have a label already."""
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
    if left:
        return
    known = pool.dropped.get(DropReason.already_labelled.value, 0)
    rows = {
        "have a label already": known,
        "have prompts of the test set or of labels that are held out": pool.kept,
    }
    reasons = ", ".join(f"{count} {why}" for why, count in rows.items() if count)
    raise DataError(f"no row of the pool is left: {reasons}; give other prompts")
