"""Loops over draws: what each selected, how right its labels were, what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

_BY = ["data", "arm", "share", "loop"]


def loops_table(history: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return the means over draws, one row for each loop of each arm that has loops.

    Args:
        history: Rows of ``arm_history``.

    Returns:
        A frame: ``data``, ``arm``, ``share``, ``loop``, ``draws`` (that trained a
        model in it), ``selected`` (pairs), ``self_labels_right`` and ``accuracy`` (of
        its own model, on test pairs) in [0, 1], ``against_seed`` (that accuracy less
        the seed model's of the same draw), ``kept`` (share of the draws). Loop 0, the
        seed model, has a row where others follow it.
    """
    frame = pd.DataFrame(history)
    arms = {arm: place for place, arm in enumerate(frame["arm"].unique())}
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
            draws=("seed", "nunique"),
            selected=("selected", "mean"),
            self_labels_right=("self_label_accuracy", "mean"),
            accuracy=("loop_accuracy", "mean"),
            against_seed=("against_seed", "mean"),
            kept=("kept", "mean"),
        )
        .reset_index()
        .sort_values(
            ["data", "share", "arm", "loop"],
            key=lambda column: column.map(arms) if column.name == "arm" else column,
            ignore_index=True,
        )
    )


def loops_text(history: Sequence[dict[str, Any]]) -> str:
    """Return the same as a Markdown table."""
    frame = loops_table(history)
    shown = pd.DataFrame(
        {
            "data": frame["data"],
            "arm": frame["arm"],
            "labels": frame["share"].map("{:.0%}".format),
            "loop": frame["loop"],
            "draws": frame["draws"],
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
