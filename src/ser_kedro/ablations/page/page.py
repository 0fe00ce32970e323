"""The results page: what the outcomes of the methods say, as rows, text and figures."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from plotly.graph_objects import Figure

from ser_kedro.ablations.outcome_job import (
    COMPARISON,
    CONFIRMATION,
    DEVELOPMENT,
    EFFICIENCY,
    OUTCOMES,
    PHASES,
    STUDIES,
)
from ser_kedro.ablations.outcomes import by_data
from ser_kedro.ablations.page.figures import efficiency_figure, methods_figure
from ser_kedro.ablations.page.render import render
from ser_kedro.ablations.section import Curve, Section, section
from ser_kedro.errors import DataError
from ser_kedro.evaluation.params import EvaluationParams
from ser_kedro.store.layout import project_root

LIBRARIES = ("torch", "transformers", "trl", "scipy", "scikit-learn")
# Share of the confirmation's prompts that may occur in development by chance.
CHANCE = 0.1
_PLACE = ["data", "seed", "group"]
History = Sequence[dict[str, Any]]


@dataclass(frozen=True)
class Provenance:
    """Where the figures come from.

    Attributes:
        command: What wrote them.
        commit: Of the project.
        versions: Of the libraries that matter, by name.
    """

    command: str
    commit: str
    versions: Mapping[str, str]

    @classmethod
    def of(cls, command: str) -> Self:
        """Return that of this process, in the project that it works on."""
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--exclude", "*"],
            cwd=project_root(),
            capture_output=True,
            text=True,
            check=False,
        )
        versions = {name: version(name) for name in LIBRARIES}
        return cls(command, described.stdout.strip() or "unknown", versions)


@dataclass(frozen=True)
class DataSet:
    """What the template shows of one data set.

    Attributes:
        name: Its name.
        sections: What was measured, by phase and study.
        labels: Human labels at a share of 1, where they are known.
    """

    name: str
    sections: Mapping[tuple[str, str], Section]
    labels: int | None

    @property
    def file(self) -> str:
        """The name as a link to a file can have it."""
        return "_".join(self.name.split())

    def by_phase(self, study: str) -> dict[str, Section]:
        """Return the sections of a study, by phase."""
        found = {phase: self.sections.get((phase, study)) for phase in PHASES}
        return {phase: one for phase, one in found.items() if one is not None}


@dataclass(frozen=True)
class Page:
    """The results of all data sets.

    Attributes:
        markdown: Text and tables, which link the figures as ``figures/NAME.svg``.
        rows: One a method, share and phase, for ``results.json``.
        figures: Plotly figures by name.
    """

    markdown: str
    rows: list[dict[str, Any]]
    figures: dict[str, Figure]


def results_page(
    outcomes: pa.Table,
    history: History,
    provenance: Provenance,
    params: EvaluationParams,
) -> Page:
    """Return the page of what was measured.

    Args:
        outcomes: Rows of ``OUTCOMES``.
        history: Rows of ``ablation_history`` and ``efficiency_history``.
        provenance: Where they come from.
        params: How to report.

    Raises:
        DataError: If a seed or a prompt of another phase was seen in development, or
            the outcomes are not complete.
    """
    _check(outcomes)
    outcomes, left_out = untouched(outcomes)
    sections = [
        section(own, phase, study, params, left_out.get((phase, study, own.data), 0))
        for phase in PHASES
        for study in STUDIES
        for own in by_data(_where(outcomes, phase=phase, study=study))
    ]
    data_sets = [
        DataSet(
            name,
            {(one.phase, one.study): one for one in sections if one.data == name},
            _all_labels(history, name),
        )
        for name in sorted({one.data for one in sections})
    ]
    markdown = render(
        "results.md.jinja",
        provenance=provenance,
        params=params,
        phases=PHASES,
        data_sets=data_sets,
        histories=_loops_by_phase(history),
    )
    figures = {
        name: figure for data in data_sets for name, figure in _figures(data).items()
    }
    rows = [row for one in sections for row in section_rows(one)]
    return Page(markdown, rows, figures)


def _check(outcomes: pa.Table) -> None:
    if missing := set(OUTCOMES.names) - set(outcomes.column_names):
        raise DataError(
            f"outcomes: no column {', '.join(sorted(missing))}; run the ablations"
            " again, what was computed is reused"
        )
    for name, known in (("phase", PHASES), ("study", STUDIES)):
        if unknown := set(outcomes[name].to_pylist()) - set(known):
            raise DataError(
                f"outcomes: unknown {name} {min(unknown)} (known: {', '.join(known)})"
            )


def _where(outcomes: pa.Table, **values: str) -> pa.Table:
    for name, value in values.items():
        outcomes = outcomes.filter(pc.equal(outcomes[name], value))
    return outcomes


def _all_labels(history: History, data: str) -> int | None:
    """Return the human labels at a share of 1."""
    whole = (row for row in history if row["data"] == data and row["share"] == 1)
    return next((row["human_labels"] for row in whole), None)


def _loops_by_phase(history: History) -> dict[str, History]:
    found = {
        phase: [
            row
            for row in history
            if (row["phase"], row["study"]) == (phase, COMPARISON)
        ]
        for phase in PHASES
    }
    return {phase: rows for phase, rows in found.items() if rows}


def _figures(data: DataSet) -> dict[str, Figure]:
    figures: dict[str, Figure] = {}
    if sections := data.by_phase(COMPARISON):
        compared = {phase: one.comparisons for phase, one in sections.items()}
        figures[f"{data.file}_methods"] = methods_figure(data.name, compared)
    # The last phase that was measured is what counts.
    for one in data.by_phase(EFFICIENCY).values():
        assert isinstance(one.findings, Curve)
        points = one.findings.points
        figures[f"{data.file}_labels"] = efficiency_figure(data.name, points)
    return figures


def section_rows(found: Section) -> list[dict[str, Any]]:
    """Return the rows of ``results.json``; shares and accuracies in [0, 1]."""
    rows = []
    for row in found.comparisons:
        difference, gap = row.difference, row.gap_closed
        rows.append(
            {
                "data": found.data,
                "method": row.method,
                "seeds": row.seeds,
                "accuracy": row.accuracy.value,
                "low": row.accuracy.low,
                "high": row.accuracy.high,
                "difference_to_seed": difference and difference.value,
                "difference_low": difference and difference.low,
                "difference_high": difference and difference.high,
                "gap_closed": gap and gap.value,
                "gap_closed_low": gap and gap.low,
                "gap_closed_high": gap and gap.high,
                "phase": found.phase,
                "study": found.study,
                "share": row.share,
                "p_holm": row.holm,
                "verdict": row.verdict,
                "smallest_difference": row.smallest,
            }
        )
    return rows


def untouched(
    outcomes: pa.Table,
) -> tuple[pa.Table, dict[tuple[str, str, str], int]]:
    """Leave out the prompts of the confirmation that development saw.

    Worlds and splits of different seeds share a prompt now and then, by chance.

    Args:
        outcomes: Rows of ``OUTCOMES``.

    Returns:
        The other rows, and how many prompts of a phase, study and data set were left
        out.

    Raises:
        DataError: If the confirmation shares a seed with development, or more prompts
            than ``CHANCE`` of its own.
    """
    frame = outcomes.select(["phase", "study", *_PLACE]).to_pandas()
    seen = frame[frame["phase"] == DEVELOPMENT]
    again = np.zeros(len(frame), bool)
    left_out: dict[tuple[str, str, str], int] = {}
    confirmation = frame[frame["phase"] == CONFIRMATION]
    for (study, data), rows in confirmation.groupby(["study", "data"]):
        shared = _shared(rows, seen[seen["data"] == data], f"{CONFIRMATION}: {data}")
        again[rows.index[rows["group"].isin(shared)]] = True
        left_out[CONFIRMATION, study, data] = len(shared)
    return outcomes.filter(pa.array(~again)), left_out


def _shared(rows: pd.DataFrame, before: pd.DataFrame, where: str) -> set[str]:
    """Return the prompt groups of one data set that development had too."""
    for column, allowed in (("seed", 0.0), ("group", CHANCE)):
        now = set(rows[column])
        both = now & set(before[column])
        if len(both) > allowed * len(now):
            what = "seed" if column == "seed" else "prompt group"
            raise DataError(
                f"{where}: {what} {min(both)} was used in development too; confirm on"
                " seeds and prompts that nobody has seen"
            )
    return both
