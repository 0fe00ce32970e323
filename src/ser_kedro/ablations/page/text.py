"""The results page's text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from ser_kedro.ablations.compare import BASELINE, CEILING, Comparison
from ser_kedro.ablations.efficiency import sentence
from ser_kedro.ablations.section import Curve, Details, Section
from ser_kedro.evaluation.params import EvaluationParams
from ser_kedro.statistics.estimate import Estimate, percent

if TYPE_CHECKING:
    from ser_kedro.ablations.page.page import Provenance


def heading(provenance: Provenance, params: EvaluationParams) -> str:
    """Return what holds for all data sets: provenance, and how to read the tables."""
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
            " three standard errors. No draw and no prompt of the other phases was used"
            " in development.",
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
    lines = [f"### {name}", ""]
    if any(isinstance(one.told, Details) for one in sections):
        lines += [f"![Accuracy of every arm](figures/{file_name(name)}_arms.svg)", ""]
    by_phase = {one.phase: one for one in sections}
    for phase in phases:
        if phase not in by_phase:
            lines += [f"**{phase.capitalize()}**: not run.", ""]
            continue
        found = by_phase[phase]
        lines += [
            f"**{phase.capitalize()}**: {_draws(found)}.",
            "",
            comparison_table(found.comparisons),
            "",
        ]
        if isinstance(found.told, Curve):
            lines += _curve(found.told, file_name(name), labels)
        else:
            lines += [f"- {line}" for line in _findings(found.comparisons, found.told)]
            lines += ["", part_table(found.comparisons, found.told), ""]
    return "\n".join(lines)


def _curve(told: Curve, file: str, labels: int | None) -> list[str]:
    return [
        f"![Accuracy by labels](figures/{file}_labels.svg)",
        "",
        "How many labels does evolution save? The intervals hold together (Bonferroni's"
        " correction for the shares).",
        "",
        *[f"- {sentence(saving, labels)}" for saving in told.savings],
        "- Accuracy of evolution less that of the seed model, a mean over these shares:"
        f" {told.mean_gain.points()}.",
        "",
    ]


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


def part_table(rows: Sequence[Comparison], told: Details) -> str:
    """Return calibration, and accuracy on parts of the pairs, as a Markdown table.

    The calibration error is that of the rewards as they are, and with the temperature
    that was fitted on validation pairs; a mean over draws.
    """
    keys = [(row.arm, row.share) for row in rows]
    shares = len({share for _, share in keys}) > 1
    table = [
        {
            "arm": arm,
            **({"labels": f"{share:.0%}"} if shares else {}),
            "calibration error": " → ".join(
                f"{error:.3f}" for error in told.calibration[arm, share]
            ),
            **{
                name: part[arm, share].percent() if (arm, share) in part else ""
                for name, part in told.parts.items()
            },
        }
        for arm, share in keys
    ]
    return _markdown(table)


def _findings(rows: Sequence[Comparison], told: Details) -> list[str]:
    beside = ", ".join(
        f"`{arm}` less that {difference.points()}"
        for arm, difference in told.beside_longer.items()
    )
    rule = f"Always preferring the longer answer: {told.longer.percent()}"
    lines = [f"{rule}; {beside}." if beside else f"{rule}."]
    for row in rows:
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
    if told.beside_all is not None:
        lines.append(
            "`ser` less `seed_all`, the same human labels without evolution:"
            f" {told.beside_all.points()}."
        )
    for low, high, share, difference in told.expected:
        verdict = "as expected" if difference.low > 0 else "not shown"
        if difference.high < 0:
            verdict = "the reverse of what is expected"
        lines.append(
            f"`{low}` below `{high}` ({share:.0%} of the labels):"
            f" {difference.points()}, {verdict}."
        )
    return lines


def _draws(found: Section) -> str:
    listed = ", ".join(map(str, found.draws))
    said = f"draws {listed}"
    if len(found.draws) == 1:
        said = f"draw {listed}; one draw says nothing about others"
    if found.left_out:
        said += f"; {found.left_out} prompts that development had too are left out"
    return said


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
