"""How alike the views of committees err, on the data of a store.

Usage: python -m benchmarks.views [PROJECT]

Reads the committees of whole sets of human labels in the project's store (by default
this one's), fits their members fold by fold again, and prints for each set of data the
mean correlation of two views' votes out of fold, counted towards the labels.
"""

from __future__ import annotations

import json
import os
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, stdev

from ser_kedro.models.features import FeatureRows
from ser_kedro.store.layout import PROJECT_VARIABLE, RESULT, finished, project_root
from ser_kedro.store.tables import read_table
from ser_kedro.training.committee import (
    choose_penalties,
    correlation_of_views,
    cross_fit,
    folds_of,
)
from ser_kedro.training.committee_job import TrainCommitteeJob
from ser_kedro.training.fit_committee import _Human

LABELS = "labeled_pairs.arrow"


def committees() -> Iterator[tuple[str, TrainCommitteeJob]]:
    """Yield the committees of all human labels of a split, and where these are from."""
    seen = set()
    for folder in finished(TrainCommitteeJob.stage):
        record = json.loads((folder / RESULT).read_text("utf-8"))
        job = TrainCommitteeJob.model_validate(record["job"])
        (table, *more) = job.pairs
        known = table.fingerprint in seen
        if more or known or Path(table.path).name != LABELS:
            continue
        seen.add(table.fingerprint)
        split = project_root() / Path(table.path).parent / RESULT
        source = json.loads(split.read_text("utf-8"))["job"]["source"]
        yield Path(source["path"] or "demo world").name, job


def correlation(job: TrainCommitteeJob) -> float:
    """Return how alike the views of a committee err, out of fold."""
    known = FeatureRows(job.features)
    tables = [read_table(table) for table in job.pairs]
    human, _ = _Human.read(known, tables, len(job.reward.views), job.reward).scaled()
    groups = [group for table in tables for group in table["group"].to_pylist()]
    folds = folds_of(groups, job.params.folds, job.seed)
    penalties = choose_penalties(human, folds)
    found = cross_fit(human, None, folds, penalties, job.params)
    votes = found.votes(human.differences, found.plain)
    alike = correlation_of_views(votes, human.labels)
    assert alike is not None
    return alike


def main() -> int:
    """Measure and print."""
    root = Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    os.environ[PROJECT_VARIABLE] = str(root)
    found: dict[str, list[float]] = defaultdict(list)
    for data, job in committees():
        found[data].append(correlation(job))
    print("| data | draws | correlation of two views' votes (its spread over draws) |")
    print("|:--|:--|:--|")
    for data, values in sorted(found.items()):
        spread = f" ± {stdev(values):.2f}" if len(values) > 1 else ""
        print(f"| {data} | {len(values)} | {mean(values):.2f}{spread} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
