"""What happened to the rows of the data, for people to read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ser_kedro.preferences.collect import Collected
from ser_kedro.preferences.source import Part, PreferenceSource
from ser_kedro.preferences.split import IN_TEST_SET, Assignment
from ser_kedro.store.references import TableRef


def data_report(
    source: PreferenceSource,
    collected: Mapping[Part, Collected],
    assignment: Assignment,
    tables: Mapping[str, TableRef],
) -> dict[str, Any]:
    """Return the document ``data_report``.

    Args:
        source: Where the data are from.
        collected: What was read of each part.
        assignment: Where the rows of ``train`` went.
        tables: What was written.
    """
    out = {"train": int((assignment.parts == IN_TEST_SET).sum())}
    sizes = {name: table.rows for name, table in tables.items()}
    labels = {part: sizes[f"{part}_pairs"] for part in ("labeled", "validation", "sft")}
    largest = assignment.largest
    return {
        "rows": {
            part: _account(found, out.get(part, 0), source.unread(part))
            for part, found in collected.items()
        },
        "tables": sizes,
        "pool": "given" if source.has_pool else "labels hidden",
        "test": "given" if source.has_test else "held out",
        "prompt_groups": assignment.prompt_groups,
        "near_copies_joined": assignment.distinct_prompts - assignment.prompt_groups,
        "largest_group": {
            "rows": largest.rows,
            "share": largest.share,
            "examples": list(largest.examples),
        },
        "split_by_pair": [
            {"prompt": prompt, "rows": count}
            for prompt, count in assignment.split_by_pair
        ],
        # SFT spends the labels of its pairs too if it learns the preferred answers.
        "human_labels": labels,
    }


def _account(
    collected: Collected, in_test_set: int, unread: list[tuple[str, str]]
) -> dict[str, Any]:
    found = collected.less({"in_test_set": in_test_set})
    return {
        "read": found.read,
        "kept": found.kept,
        "dropped": found.dropped,
        "examples": [list(example) for example in found.examples],
        "recognised": found.recognised,
        "unused_columns": found.unused,
        "unread_files": {name: reason for name, reason in unread},
        "repairs": found.repairs,
    }
