"""The results page: what the arms' outcomes say, as rows, as text and as figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from ser_kedro.ablations.outcomes import by_data
from ser_kedro.ablations.page import text
from ser_kedro.ablations.page.figures import arms_figure, efficiency_figure
from ser_kedro.ablations.section import EFFICIENCY, Curve, Section, section
from ser_kedro.errors import DataError
from ser_kedro.evaluation.params import EvaluationParams

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

DEVELOPMENT, CONFIRMATION = "development", "confirmation"
PHASES = (DEVELOPMENT, CONFIRMATION, EFFICIENCY)
# Share of a phase's prompts that may occur in development by chance.
CHANCE = 0.1
_PLACE = ["data", "seed", "group"]


@dataclass(frozen=True)
class Provenance:
    """Where the figures come from.

    Attributes:
        command: What printed them.
        commit: Of the project.
        versions: Of the libraries that matter, by name.
    """

    command: str
    commit: str
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Page:
    """The results of all data sets.

    Attributes:
        markdown: Text and tables, which link the figures as ``figures/NAME.svg``.
        rows: One an arm, share and phase, for ``results.json``.
        figures: Plotly figures by name.
    """

    markdown: str
    rows: list[dict[str, Any]]
    figures: dict[str, Figure]


def results_page(
    phases: Mapping[str, pa.Table],
    provenance: Provenance,
    params: EvaluationParams,
    labels: Mapping[str, int] | None = None,
) -> Page:
    """Return the page of what was measured.

    Args:
        phases: Rows of ``OUTCOMES`` by phase.
        provenance: Where they come from.
        params: How to report.
        labels: Human labels of a data set at a share of 1, by name, so that savings
            can be told as numbers.

    Raises:
        DataError: If a draw or a prompt of another phase was seen in development, or
            the outcomes are not complete.
    """
    phases, left_out = untouched(phases)
    sections = [
        section(outcomes, phase, params, left_out.get((phase, outcomes.data), 0))
        for phase in PHASES
        if phase in phases
        for outcomes in by_data(phases[phase])
    ]
    figures: dict[str, Figure] = {}
    blocks = [text.heading(provenance, params)]
    for name in sorted({one.data for one in sections}):
        of_data = [one for one in sections if one.data == name]
        blocks.append(
            text.data_section(name, of_data, PHASES, params, (labels or {}).get(name))
        )
        figures |= _figures(name, of_data)
    rows = [row for one in sections for row in section_rows(one)]
    return Page("\n".join(blocks), rows, figures)


def _figures(name: str, sections: list[Section]) -> dict[str, Figure]:
    file = text.file_name(name)
    arms = {one.phase: one.comparisons for one in sections if one.phase != EFFICIENCY}
    figures = {f"{file}_arms": arms_figure(name, arms)} if arms else {}
    for one in sections:
        if isinstance(one.told, Curve):
            figures[f"{file}_labels"] = efficiency_figure(name, one.told.points)
    return figures


def section_rows(found: Section) -> list[dict[str, Any]]:
    """Return the rows of ``results.json``; shares and accuracies in [0, 1]."""
    rows = []
    for row in found.comparisons:
        difference, gap = row.difference, row.gap_closed
        rows.append(
            {
                "data": found.data,
                "arm": row.arm,
                "seeds": row.draws,
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
                "share": row.share,
                "p_holm": row.holm,
                "verdict": row.verdict,
                "smallest_difference": row.smallest,
            }
        )
    return rows


def untouched(
    phases: Mapping[str, pa.Table],
) -> tuple[dict[str, pa.Table], dict[tuple[str, str], int]]:
    """Return the phases, the later ones without prompts that development saw.

    Worlds and splits of different draws share a prompt now and then, by chance.

    Returns:
        The phases, and how many prompts of a phase and data set were left out.

    Raises:
        DataError: If a data set's phases share a draw, or more prompts than ``CHANCE``
            of them.
    """
    if not phases or set(phases) - set(PHASES):
        raise DataError(f"outcomes: give some of the phases {', '.join(PHASES)}")
    if DEVELOPMENT not in phases:
        return dict(phases), {}
    seen = phases[DEVELOPMENT].select(_PLACE).to_pandas()
    kept, left_out = dict(phases), {}
    for phase in phases.keys() - {DEVELOPMENT}:
        own = phases[phase].select(_PLACE).to_pandas()
        again = np.zeros(len(own), bool)
        for data, rows in own.groupby("data"):
            before = seen[seen["data"] == data]
            shared = _shared(rows, before, f"{phase}: {data}")
            again |= ((own["data"] == data) & own["group"].isin(shared)).to_numpy()
            left_out[phase, data] = len(shared)
        kept[phase] = phases[phase].filter(pa.array(~again))
    return kept, left_out


def _shared(rows: pd.DataFrame, before: pd.DataFrame, where: str) -> set[str]:
    """Return the prompt groups of one data set that development had too."""
    for column, allowed in (("seed", 0.0), ("group", CHANCE)):
        now = set(rows[column])
        both = now & set(before[column])
        if len(both) > allowed * len(now):
            what = "draw" if column == "seed" else "prompt group"
            raise DataError(
                f"{where}: {what} {min(both)} was used in development too; confirm on"
                " draws and prompts that nobody has seen"
            )
    return both
