"""The results page's text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from ser_kedro.evidence.compare import BASELINE, CEILING, Comparison
from ser_kedro.evidence.efficiency import sentence
from ser_kedro.evidence.metrics import Estimate, percent
from ser_kedro.evidence.params import EvaluationParams

if TYPE_CHECKING:
    from ser_kedro.evidence.results import Provenance, Section


def heading(provenance: Provenance, params: EvaluationParams, left_out: int = 0) -> str:
    """Return what holds for all data sets: provenance, and how to read the tables.

    Args:
        provenance: Where the figures come from.
        params: How to report.
        left_out: Prompts of the confirmation that development had too, by chance.
    """
    without = (
        f" {left_out} prompts of it that occur in development too are left out."
        if left_out
        else ""
    )
    versions = ", ".join(f"{name} {v}" for name, v in provenance.versions.items())
    level = f"{params.confidence:.0%}"
    return "\n".join(
        [
            "## Does self-evolution help?",
            "",
            f"Command: `{provenance.command}`"
            f" (commit {provenance.commit}, {versions}).",
            "Accuracy on the test pairs in per cent; differences to the seed model of"
            f" the same draws in points, paired; intervals of {level} over draws and"
            " prompts. p is corrected by Holm's method for all comparisons of the data"
            " set and phase. *Resolvable* is the difference that would be found with a"
            f" power of {params.power:.0%}: below it, *not resolved* means that it may"
            " well be there. *Gap closed* is the part, in per cent, of the way from the"
            " seed model to all labels (Fieller's interval), where that way is above"
            " three standard errors. Options were chosen on the development draws; the"
            " confirmation was run once, on draws and prompts that no choice had seen."
            f"{without}",
            "",
        ]
    )


def file_name(data: str) -> str:
    """Return a data set's name as a link to a file can have it."""
    return re.sub(r"\W+", "_", data)


def data_section(
    name: str,
    sections: Sequence[Section],
    phases: Sequence[str],
    params: EvaluationParams,
    labels: int | None = None,
) -> str:
    """Return the text of one data set, its phases one after the other.

    Args:
        name: Of the data set.
        sections: What was measured, at most one a phase.
        phases: All phases; one that was not measured is named as such.
        params: How to report.
        labels: Human labels at a share of 1.
    """
    lines = [
        f"### {name}",
        "",
        f"![Accuracy of every arm](figures/{file_name(name)}_arms.svg)",
        "",
    ]
    by_phase = {one.phase: one for one in sections}
    for phase in phases:
        if phase not in by_phase:
            lines += [f"**{phase.capitalize()}**: not run.", ""]
            continue
        found = by_phase[phase]
        lines += [
            f"**{phase.capitalize()}**: {_draws(found.draws)}.",
            "",
            comparison_table(found.comparisons),
            "",
        ]
        if found.mean_gain is None:
            lines += [*[f"- {line}" for line in _findings(found)], ""]
            lines += [part_table(found), ""]
            continue
        lines += [
            "How many labels does evolution save? Each interval stands for itself.",
            "",
            f"![Accuracy by labels](figures/{file_name(name)}_labels.svg)",
            "",
            f"- Evolution less the seed model, a mean over these shares:"
            f" {found.mean_gain.points()}, {found.mean_gain.verdict()}.",
            *[f"- {sentence(saving, labels)}" for saving in found.savings],
            "",
        ]
    return "\n".join(lines)


def comparison_table(rows: Sequence[Comparison]) -> str:
    """Return every arm beside the seed model as a Markdown table."""
    shares = len({row.share for row in rows}) > 1
    ceiling = any(row.arm == CEILING for row in rows)
    table = [
        {
            "arm": row.arm,
            **({"labels": f"{row.share:.0%}"} if shares else {}),
            "draws": str(row.draws),
            "accuracy": row.accuracy.percent(),
            "difference": _difference(row.difference),
            "p": "" if row.holm is None else _p(row.holm),
            "verdict": row.verdict or "",
            "resolvable": _resolvable(row),
            **({"gap closed": _gap(row)} if ceiling else {}),
        }
        for row in rows
    ]
    return _markdown(table)


def part_table(found: Section) -> str:
    """Return calibration, and accuracy on parts of the pairs, as a Markdown table.

    The calibration error is that of the rewards as they are, and with the temperature
    that was fitted on validation pairs; a mean over draws.
    """
    keys = [(row.arm, row.share) for row in found.comparisons]
    shares = len({share for _, share in keys}) > 1
    table = [
        {
            "arm": arm,
            **({"labels": f"{share:.0%}"} if shares else {}),
            "calibration error": " → ".join(
                f"{error:.3f}" for error in found.calibration[arm, share]
            ),
            **{
                name: part[arm, share].percent() if (arm, share) in part else ""
                for name, part in found.parts.items()
            },
        }
        for arm, share in keys
    ]
    return _markdown(table)


def _findings(found: Section) -> list[str]:
    lines = []
    if found.longer is not None:
        lines.append(
            f"Always preferring the longer answer: {found.longer.percent()}, without"
            " any label."
        )
    for row in found.comparisons:
        if row.arm != "ser" or row.difference is None:
            continue
        said = {"gain": "a gain", "loss": "a loss"}.get(str(row.verdict))
        said = said or "not resolved"
        if row.same:
            said = "since it kept the seed model, or one that answers alike, each time"
        elif row.verdict == "not resolved" and row.smallest is not None:
            said += (
                f"; below {percent(row.smallest)} points it would be missed too often"
            )
        lines.append(
            f"Self-evolution with {row.share:.0%} of the labels:"
            f" {row.difference.points()}, {said}."
        )
    for low, high, share, difference in found.expected:
        verdict = "as expected" if difference.low > 0 else "not shown"
        if difference.high < 0:
            verdict = "the reverse of what is expected"
        lines.append(
            f"`{low}` below `{high}` ({share:.0%} of the labels):"
            f" {difference.points()}, {verdict}."
        )
    return lines


def _draws(draws: Sequence[int]) -> str:
    listed = ", ".join(map(str, draws))
    if len(draws) == 1:
        return f"draw {listed}; one draw says nothing about others"
    return f"draws {listed}"


def _difference(value: Estimate | None) -> str:
    return "" if value is None else value.points().replace(" points", "")


def _gap(row: Comparison) -> str:
    if row.arm == BASELINE:
        return ""
    return "–" if row.gap_closed is None else row.gap_closed.percent()


def _resolvable(row: Comparison) -> str:
    if row.difference is None:
        return ""
    if row.smallest is None:
        return "–"
    return percent(row.smallest) if row.smallest < 1 else "> 100"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _markdown(rows: list[dict[str, Any]]) -> str:
    frame = pd.DataFrame(rows)
    return str(frame.to_markdown(index=False, disable_numparse=True))
