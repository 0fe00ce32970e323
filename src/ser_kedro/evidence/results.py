"""The results page: what the arms' outcomes say, as rows, as text and as figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from ser_kedro.errors import DataError
from ser_kedro.evidence import results_text as text
from ser_kedro.evidence.breakdown import equal_bins
from ser_kedro.evidence.calibration import calibration_error
from ser_kedro.evidence.compare import (
    BASELINE,
    CEILING,
    Comparison,
    accuracy_of,
    compare,
)
from ser_kedro.evidence.efficiency import Saving, mean_gain, savings
from ser_kedro.evidence.intervals import infer
from ser_kedro.evidence.metrics import Estimate
from ser_kedro.evidence.outcomes import Key, Outcomes, by_data
from ser_kedro.evidence.params import EvaluationParams
from ser_kedro.evidence.results_figures import arms_figure, efficiency_figure

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

DEVELOPMENT, CONFIRMATION, EFFICIENCY = "development", "confirmation", "efficiency"
PHASES = (DEVELOPMENT, CONFIRMATION, EFFICIENCY)
# Share of a phase's prompts that may occur in development by chance.
CHANCE = 0.1
_PLACE = ["data", "seed", "group"]
# What any sound measurement shows; where it does not, the page says so.
EXPECTED = (("random_labels", BASELINE), (BASELINE, CEILING), ("ser", "leaky"))
_THIRDS = ("hardest", "middle", "easiest")


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
class Section:
    """One data set in one phase.

    Attributes:
        data: Its name.
        phase: One of ``PHASES``.
        draws: Seeds of the baseline.
        comparisons: Every arm at every share.
        expected: Pairs of arms that should differ, with the measured difference.
        savings: What evolution saves in labels; of the phase ``efficiency``.
        parts: Accuracy of each arm by source, length and difficulty, by name of the
            part.
        calibration: Calibration error of each arm before and after its temperature.
        mean_gain: Of evolution on the seed model, over all shares of that phase.
        curve: Accuracy of ``seed`` and ``ser`` by share.
        longer: Accuracy of always preferring the longer answer.
    """

    data: str
    phase: str
    draws: list[int]
    comparisons: list[Comparison]
    expected: list[tuple[str, str, float, Estimate]] = field(default_factory=list)
    savings: list[Saving] = field(default_factory=list)
    parts: dict[str, dict[Key, Estimate]] = field(default_factory=dict)
    calibration: dict[Key, tuple[float, float]] = field(default_factory=dict)
    mean_gain: Estimate | None = None
    curve: dict[str, list[tuple[float, Estimate]]] = field(default_factory=dict)
    longer: Estimate | None = None


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
        section(outcomes, phase, params)
        for phase in PHASES
        if phase in phases
        for outcomes in by_data(phases[phase])
    ]
    names = sorted({one.data for one in sections})
    figures: dict[str, Figure] = {}
    blocks = [text.heading(provenance, params, left_out)]
    for name in names:
        of_data = [one for one in sections if one.data == name]
        file = text.file_name(name)
        figures[f"{file}_arms"] = arms_figure(
            name,
            {one.phase: one.comparisons for one in of_data if one.phase != EFFICIENCY},
        )
        for one in of_data:
            if one.savings:
                figures[f"{file}_labels"] = efficiency_figure(name, one.curve)
        blocks.append(
            text.data_section(name, of_data, PHASES, params, (labels or {}).get(name))
        )
    rows = [row for one in sections for row in section_rows(one)]
    return Page("\n".join(blocks), rows, figures)


def section(outcomes: Outcomes, phase: str, params: EvaluationParams) -> Section:
    """Return all that is said of one data set in one phase."""
    saved = savings(outcomes, params) if phase == EFFICIENCY else []
    known = outcomes.shares(BASELINE)
    return Section(
        data=outcomes.data,
        phase=phase,
        draws=outcomes.draws((BASELINE, known[0])) if known else [],
        comparisons=compare(outcomes, params),
        expected=_expected(outcomes, params),
        savings=saved,
        mean_gain=mean_gain(outcomes, params) if saved else None,
        parts=_parts(outcomes, params),
        calibration=_calibration(outcomes, params),
        curve={
            arm: [
                (share, accuracy_of(outcomes, (arm, share), params))
                for share in outcomes.shares(arm)
            ]
            for arm in (BASELINE, "ser")
        }
        if saved
        else {},
        longer=_longer(outcomes, (BASELINE, known[0]), params) if known else None,
    )


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


def untouched(phases: Mapping[str, pa.Table]) -> tuple[dict[str, pa.Table], int]:
    """Return the phases, the later ones without prompts that development saw.

    Worlds and splits of different draws share a prompt now and then, by chance.

    Returns:
        The phases, and how many prompts of the confirmation were left out.

    Raises:
        DataError: If they share a draw, or more prompts than ``CHANCE`` of them.
    """
    if not phases or set(phases) - set(PHASES):
        raise DataError(f"outcomes: the phases are {', '.join(PHASES)}")
    if DEVELOPMENT not in phases:
        return dict(phases), 0
    seen = phases[DEVELOPMENT].select(_PLACE).to_pandas()
    kept, left_out = dict(phases), 0
    for phase in phases.keys() - {DEVELOPMENT}:
        kept[phase], dropped = _fresh(phases[phase], seen, phase)
        left_out += dropped if phase == CONFIRMATION else 0
    return kept, left_out


def _fresh(table: pa.Table, seen: pd.DataFrame, phase: str) -> tuple[pa.Table, int]:
    """Return the rows of prompts that were not seen, and how many prompts were."""
    own = table.select(_PLACE).to_pandas()
    for column, allowed in (("seed", 0.0), ("group", CHANCE)):
        before, now = (
            pd.MultiIndex.from_frame(rows[["data", column]].drop_duplicates())
            for rows in (seen, own)
        )
        both = now[now.isin(before)]
        if len(both) > allowed * len(now):
            what = "draw" if column == "seed" else "prompt group"
            data, first = both.sort_values()[0]
            raise DataError(
                f"{phase}: {what} {first} of {data} was used in development too;"
                " confirm on draws and prompts that nobody has seen"
            )
    rows = pd.MultiIndex.from_frame(own[["data", "group"]])
    return table.filter(pa.array(~rows.isin(before))), len(both)


def _expected(
    outcomes: Outcomes, params: EvaluationParams
) -> list[tuple[str, str, float, Estimate]]:
    found = []
    for low, high in EXPECTED:
        for share in outcomes.shares(high):
            keys = (low, share), (high, share)
            if keys[0] in outcomes.keys and outcomes.draws(*keys):
                contrast = infer(outcomes.cells({keys[1]: 1, keys[0]: -1}))
                found.append((low, high, share, contrast.estimate(params.confidence)))
    return found


def _parts(
    outcomes: Outcomes, params: EvaluationParams
) -> dict[str, dict[Key, Estimate]]:
    """Return accuracies by source, by length, and by thirds of the full's margin."""
    named = outcomes.frame["source"].to_numpy()
    masks: dict[str, Any] = {}
    if len(sources := sorted(set(named))) > 1:
        masks |= {f"source {source}": named == source for source in sources}
    masks["shorter preferred"] = outcomes.frame["excess_length"].to_numpy() < 0
    masks |= _difficulty(outcomes)
    found: dict[str, dict[Key, Estimate]] = {}
    for name, mask in masks.items():
        if not mask.any():
            continue
        part = outcomes.where(mask)
        found[name] = {key: accuracy_of(part, key, params) for key in part.keys}
    return found


def _longer(outcomes: Outcomes, key: Key, params: EvaluationParams) -> Estimate:
    """Return the accuracy of a rule that needs no label, on the pairs of an arm."""
    frame = outcomes.frame
    rows = frame[(frame["arm"] == key[0]) & (frame["share"] == key[1])]
    rule = rows.assign(chosen_reward=rows["excess_length"], rejected_reward=0)
    return accuracy_of(Outcomes.of(rule, outcomes.data), key, params)


def _calibration(
    outcomes: Outcomes, params: EvaluationParams
) -> dict[Key, tuple[float, float]]:
    found: dict[Key, list[tuple[float, float]]] = {}
    for (arm, share, _), rows in outcomes.frame.groupby(["arm", "share", "seed"]):
        margins = (rows["chosen_reward"] - rows["rejected_reward"]).to_numpy(np.float64)
        errors = (
            calibration_error(margins, params.bins),
            calibration_error(margins / rows["temperature"].to_numpy(), params.bins),
        )
        found.setdefault((arm, share), []).append(errors)
    means = {key: np.mean(errors, axis=0) for key, errors in found.items()}
    return {key: (float(mean[0]), float(mean[1])) for key, mean in means.items()}


def _difficulty(outcomes: Outcomes) -> dict[str, Any]:
    """Return masks of the thirds of each draw's pairs, by the full model's margin."""
    frame = outcomes.frame
    full = frame[frame["arm"] == CEILING]
    if full.empty:
        return {}
    ease = (full["chosen_reward"] - full["rejected_reward"]).abs()
    by_pair = ease.groupby([full["seed"], full["pair_id"]]).mean()
    thirds = by_pair.groupby(level="seed").transform(
        lambda values: equal_bins(values.to_numpy(), len(_THIRDS))
    )
    place = thirds.rename("third")
    of_row = frame.join(place, on=["seed", "pair_id"])["third"].to_numpy()
    return {f"{name} third": of_row == number for number, name in enumerate(_THIRDS)}
