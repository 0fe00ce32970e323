"""Loops over seeds: what each selected, how right its labels were, what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

_BY = ["data", "method", "share", "loop"]


def loops_table(history: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return the means over seeds, one row for each loop of each method that has loops.

    Args:
        history: Rows of ``ablation_history``.

    Returns:
        A frame: ``data``, ``method``, ``share``, ``loop``, ``seeds`` (that trained a
        model in it), ``selected`` (pairs), ``self_labels_right`` and ``accuracy`` (of
        its own model, on test pairs) in [0, 1], ``against_seed`` (that accuracy less
        the seed model's of the same seed), ``kept`` (share of the seeds). Loop 0, the
        seed model, has a row where others follow it.
    """
    frame = pd.DataFrame(history)
    methods = {method: place for place, method in enumerate(frame["method"].unique())}
    looped = frame[frame["loop_accuracy"].notna()].copy()
    one = [*_BY[:-1], "seed"]
    looped = looped[looped.groupby(one)["loop"].transform("max") > 0]
    seeds = looped[looped["loop"] == 0].set_index(one)["loop_accuracy"]
    start = seeds.reindex(pd.MultiIndex.from_frame(looped[one])).to_numpy()
    looped["against_seed"] = looped["loop_accuracy"].to_numpy() - start
    return (
        looped.astype({"self_label_accuracy": float, "kept": float})
        .groupby(_BY, sort=False)
        .agg(
            seeds=("seed", "nunique"),
            selected=("selected", "mean"),
            self_labels_right=("self_label_accuracy", "mean"),
            accuracy=("loop_accuracy", "mean"),
            against_seed=("against_seed", "mean"),
            kept=("kept", "mean"),
        )
        .reset_index()
        .sort_values(
            ["data", "share", "method", "loop"],
            key=lambda column: (
                column.map(methods) if column.name == "method" else column
            ),
            ignore_index=True,
        )
    )


def loops_text(history: Sequence[dict[str, Any]]) -> str:
    """Return the same as a Markdown table."""
    frame = loops_table(history)
    shown = pd.DataFrame(
        {
            "data": frame["data"],
            "method": frame["method"],
            "labels": frame["share"].map("{:.0%}".format),
            "loop": frame["loop"],
            "seeds": frame["seeds"],
            "selected": frame["selected"].map("{:.0f}".format),
            "self-labels right": frame["self_labels_right"].map(_percent),
            "test accuracy": frame["accuracy"].map(_percent),
            "less the seed's": frame["against_seed"].map(
                lambda value: f"{100 * value:+.1f}"
            ),
            "kept": frame["kept"].map("{:.0%}".format),
        }
    )
    return str(shown.to_markdown(index=False, disable_numparse=True))


def _percent(value: float) -> str:
    return "" if pd.isna(value) else f"{100 * value:.1f}"
