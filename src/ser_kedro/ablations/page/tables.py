"""The Markdown tables of the results page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from ser_kedro.ablations.compare import BASELINE, CEILING, Comparison
from ser_kedro.ablations.section import Details, Section
from ser_kedro.statistics.estimate import Estimate, percent


def comparison_table(rows: Sequence[Comparison]) -> str:
    """Return every method beside the seed model."""
    shares = len({row.share for row in rows}) > 1
    ceiling = any(row.method == CEILING for row in rows)
    table = [
        {
            "method": row.method,
            **({"labels": f"{row.share:.0%}"} if shares else {}),
            "seeds": str(row.seeds),
            "accuracy": row.accuracy.percent(),
            "difference": _difference(row.difference),
            "p": "" if row.holm is None else _p(row.holm),
            "verdict": row.verdict or "",
            "detectable": _detectable(row),
            **({"gap closed": _gap(row)} if ceiling else {}),
        }
        for row in rows
    ]
    return _markdown(table)


def part_table(section: Section) -> str:
    """Return calibration, and accuracy on parts of the pairs.

    The calibration error is that of the rewards as they are, and with the temperature
    that was fitted on validation pairs; a mean over seeds.

    Args:
        section: Of any phase but ``efficiency``.
    """
    assert isinstance(section.findings, Details)
    found = section.findings
    keys = [(row.method, row.share) for row in section.comparisons]
    shares = len({share for _, share in keys}) > 1
    table = [
        {
            "method": method,
            **({"labels": f"{share:.0%}"} if shares else {}),
            "calibration error": " → ".join(
                f"{error:.3f}" for error in found.calibration[method, share]
            ),
            **{
                name: part[method, share].percent() if (method, share) in part else ""
                for name, part in found.parts.items()
            },
        }
        for method, share in keys
    ]
    return _markdown(table)


def _difference(value: Estimate | None) -> str:
    return "" if value is None else value.points().replace(" points", "")


def _gap(row: Comparison) -> str:
    if row.method == BASELINE:
        return ""
    return "–" if row.gap_closed is None else row.gap_closed.percent()


def _detectable(row: Comparison) -> str:
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
