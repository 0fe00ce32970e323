"""Consistency: does a model rank a pair alike, however it is put?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from ser_kedro.evaluation.consistency_job import AS_IT_IS, ConsistencyJob
from ser_kedro.evaluation.params import EvaluationParams
from ser_kedro.launch.executor import run
from ser_kedro.launch.params import LauncherParams
from ser_kedro.models.params import Scoring
from ser_kedro.store.references import ModelRef, TableRef
from ser_kedro.store.tables import read_table


def consistency_of(
    model: ModelRef,
    pairs: TableRef,
    params: EvaluationParams,
    scoring: Scoring,
    launcher: LauncherParams,
) -> list[dict[str, Any]]:
    """Measure the consistency of a model on some labelled pairs.

    Returns:
        As ``consistency``; nothing where ``params.consistency_pairs`` is 0.
    """
    if not params.consistency_pairs:
        return []
    job = ConsistencyJob(
        model=model,
        pairs=pairs,
        count=params.consistency_pairs,
        **scoring.model_dump(),
    )
    return consistency(read_table(run(job, launcher)["rewards"]))


def consistency(table: pa.Table) -> list[dict[str, Any]]:
    """Return, for every other wording, how far the rewards and rankings move.

    Args:
        table: Rows of ``CONSISTENCY``.

    Returns:
        A row a wording: ``variant``, ``pairs``, ``flipped`` (share of the pairs that
        change their order), ``moved`` (mean absolute change of the reward difference,
        in standard deviations of that difference; ``None`` where it does not vary) and
        ``accuracy``.
    """
    frame = table.to_pandas()
    frame["margin"] = frame["reward_a"].astype(float) - frame["reward_b"].astype(float)
    margins = frame.pivot(index="pair_id", columns="variant", values="margin")
    plain = margins[AS_IT_IS]
    spread = float(plain.std(ddof=0))
    rows = []
    for name in [n for n in frame["variant"].unique() if n != AS_IT_IS]:
        other = margins[name]
        rows.append(
            {
                "variant": name,
                "pairs": len(other),
                "flipped": float((np.sign(other) != np.sign(plain)).mean()),
                "moved": float((other - plain).abs().mean() / spread)
                if spread
                else None,
                "accuracy": float((other > 0).mean() + (other == 0).mean() / 2),
            }
        )
    return rows


def lines(rows: list[dict[str, Any]]) -> list[str]:
    """Return consistency as lines of the summary."""
    return [
        f"- Consistency ({row['variant']}): {row['flipped']:.1%} of"
        f" {row['pairs']:,} pairs change their order; accuracy"
        f" {100 * row['accuracy']:.1f}."
        for row in rows
    ]
