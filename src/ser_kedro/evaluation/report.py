"""The summary that a run ends with, as Markdown, and the figure beside it."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from plotly.graph_objects import Figure, Scatter

from ser_kedro.evaluation import benchmark_results, diagnostics
from ser_kedro.evaluation.cautions import cautions, odd_outcomes, odd_rewards
from ser_kedro.evaluation.history import gain, prompt_groups
from ser_kedro.evaluation.test_scores import TestScores
from ser_kedro.launch.machine import machine
from ser_kedro.self_evolution.state import CO_TRAINED, COMMITTEE, COMMITTEES, PLAIN
from ser_kedro.statistics.estimate import Estimate
from ser_kedro.statistics.params import StatisticsParams
from ser_kedro.statistics.power import of_one_run
from ser_kedro.store.references import TableRef

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelBudget:
    """Human labels that a run has used.

    Attributes:
        training: Pairs that the seed model was trained on.
        validation: Pairs that loops are compared on; 0: on all, by cross-fitting.
        sft: Pairs whose preferred response SFT was trained on; 0 where it used both.
        pool: Pairs without labels.
        prompts: Prompts that were given without answers, in their place.
        ready: Loop 0 is a reward model as it was given, which learned from no label.
    """

    training: int
    validation: int
    sft: int
    pool: int
    prompts: int = 0
    ready: bool = False

    @classmethod
    def count(
        cls, data_report: dict[str, Any], *, sft_spends: bool, ready: bool
    ) -> LabelBudget:
        """Count the labels from ``data_report``.

        Args:
            data_report: What ``data_split`` reported.
            sft_spends: SFT was trained on the preferred responses only.
            ready: Loop 0 is a reward model as it was given.
        """
        labels = data_report["human_labels"]
        return cls(
            training=labels["labeled"],
            validation=labels["validation"],
            sft=labels["sft"] if sft_spends else 0,
            pool=data_report["tables"]["unlabeled_pairs"],
            prompts=data_report["tables"]["pool_prompts"],
            ready=ready,
        )

    @property
    def preference(self) -> int:
        """Labels used by the reward models."""
        return self.training + self.validation

    @property
    def judging(self) -> int:
        """Labels that loops are compared on."""
        return self.validation or self.training

    @property
    def crossfit(self) -> bool:
        """No label is held out, so loop 0 is trained on all of them."""
        return not self.validation

    @property
    def pool_size(self) -> int:
        """What had no label."""
        return self.pool or self.prompts

    @property
    def purpose(self) -> str:
        """What the labels were for, in words."""
        if self.ready:
            return "to judge every loop's model, and to train those of the loops"
        if self.crossfit:
            return (
                "all of them to train every loop's model, and to judge it: each by"
                " models of other folds, which have not seen it"
            )
        return (
            f"{self.training:,} to train the seed model, {self.validation:,} to compare"
            " loops"
        )

    @property
    def without(self) -> str:
        """What had no label, in words."""
        if self.prompts:
            return f"{self.prompts:,} prompts, which a model answered"
        return f"{self.pool:,} pairs without labels"


def report_of(
    history: pd.DataFrame,
    test_scores: TestScores,
    test_pairs: TableRef,
    diagnosed: dict[str, Any],
    tested: dict[str, Any],
    data_report: dict[str, Any],
    labels: LabelBudget,
    params: StatisticsParams,
) -> tuple[str, Figure]:
    """Return the summary and the figure of a run.

    Args:
        history: ``evolution_history``.
        test_scores: Test scores by loop.
        test_pairs: The test pairs.
        diagnosed: ``diagnostics``.
        tested: ``benchmark_results``.
        data_report: What ``data_split`` reported.
        labels: Human labels used.
        params: How to report.
    """
    kept = history.loc[history["selected_model"], "loop"].iloc[0]
    scores = test_scores.root
    gained = gain(scores[_plain(history)["loop"]], scores[kept], test_pairs, params)
    groups = prompt_groups(test_pairs)
    mind = [
        *cautions(len(np.unique(groups)), labels.judging, labels.pool_size),
        *odd_outcomes(history),
        *odd_rewards(test_scores, {0: "the model of loop 0", kept: "the kept model"}),
    ]
    for line in mind:
        logger.warning("%s", line)
    further = [*diagnostics.lines(diagnosed), *benchmark_results.lines(tested)]
    if data_report["test"] != "given":
        further.insert(0, _held_out_line(groups, params))
    text = summary(history, gained, labels, data_report, further, mind)
    return text, figure(history)


def summary(
    history: pd.DataFrame,
    gained: Estimate,
    labels: LabelBudget,
    data_report: dict[str, Any],
    further: Sequence[str] = (),
    mind: Sequence[str] = (),
) -> str:
    """Return the summary: loop by loop, what was gained, labels used, rows dropped.

    Args:
        history: ``evolution_history``.
        gained: Difference in test accuracy, the kept model minus one of all human
            labels that is not evolved, or minus the seed where there is none; in
            [-1, 1].
        labels: Human labels used.
        data_report: What ``data_split`` reported.
        further: Lines on calibration, length and other test sets.
        mind: Lines on numbers that say nothing.
    """
    lines = [
        "# Self-evolution, loop by loop",
        "",
        loop_table(history, "out of fold" if labels.crossfit else "validation"),
        "",
        _gain_line(history, gained, labels),
        "",
        *(line for each in mind for line in (each, "")),
        f"Human labels used: {labels.preference:,} ({labels.purpose}) beside"
        f" {labels.without}; with those that SFT consumed:"
        f" {labels.preference + labels.sft:,}.",
        "",
        *_row_lines(data_report),
        _length_line(history),
        "",
        f"Written on {machine()}. Figures hold for the processor and the number of"
        " threads that computed them; others may give other digits.",
        "",
        *further,
        *([""] if further else []),
    ]
    return "\n".join(lines)


def loop_table(history: pd.DataFrame, unseen: str = "validation") -> str:
    """Return the loops as a Markdown table that also reads well as plain text.

    Args:
        history: ``evolution_history``.
        unseen: What to call the labels that loops are compared on.
    """
    rows = [
        {
            "loop": f"{row.loop}{' *' if row.selected_model else ''}",
            "status": row.status,
            "selected": f"{row.selected:,}",
            "pool left": _percent(row.pool_left, 0),
            "self-labels right": _self_labels(row),
            unseen: _percent(row.validation_accuracy),
            "log-loss": _number(row.validation_log_loss),
            "test accuracy [95 %]": _interval(row),
            "outcome": _outcome(row),
        }
        for row in history.itertuples()
    ]
    table = pd.DataFrame(rows)
    return str(table.to_markdown(index=False, disable_numparse=True))


def figure(history: pd.DataFrame) -> Figure:
    """Return test accuracy by loop with intervals, and the self-labels' accuracy."""
    committee = history[history["status"].isin(COMMITTEES)]
    loops = history[~history["status"].isin((*COMMITTEES, PLAIN))]
    trained = loops.dropna(subset=["test_accuracy"])
    above = trained["test_accuracy_high"] - trained["test_accuracy"]
    below = trained["test_accuracy"] - trained["test_accuracy_low"]
    drawn = Figure(
        [
            Scatter(
                x=trained["loop"],
                y=trained["test_accuracy"],
                error_y={"array": above, "arrayminus": below},
                mode="lines+markers",
                name="test accuracy",
            ),
            Scatter(
                x=history["loop"],
                y=history["self_label_accuracy"],
                mode="lines+markers",
                line={"dash": "dot"},
                name="self-labels right",
            ),
        ]
    )
    kept = history.loc[history["selected_model"], "loop"].iloc[0]
    drawn.add_vline(x=kept, line={"dash": "dash"}, annotation_text="kept")
    if len(committee):
        drawn.add_scatter(
            x=committee["loop"],
            y=committee["test_accuracy"],
            mode="markers",
            marker={"symbol": "diamond", "size": 10},
            name="committee",
        )
    if (plain := _plain(history))["loop"]:
        drawn.add_hline(
            y=plain["test_accuracy"],
            line={"dash": "dot"},
            annotation_text="all human labels, no evolution",
        )
    drawn.update_layout(
        title="Self-evolution, loop by loop",
        xaxis={"title": "loop (0 is the seed)", "dtick": 1},
        yaxis={"title": "share of pairs", "tickformat": ".0%"},
    )
    return drawn


def _gain_line(history: pd.DataFrame, gained: Estimate, labels: LabelBudget) -> str:
    plain, kept = _plain(history), history[history["selected_model"]].iloc[0]
    every = labels.crossfit or plain["status"] == PLAIN
    start = "All human labels, no evolution" if every else "Seed"
    if labels.ready and not plain["loop"]:
        start = "The reward model as it was given"
    if kept["loop"] == 0:
        unseen = "out of fold" if labels.crossfit else "by the validation pairs"
        verdict = f"no loop was better {unseen}, so the seed is kept"
        if plain["loop"]:
            verdict += f"; {gained.verdict()}"
    else:
        verdict = gained.verdict()
        if not gained.excludes_zero:
            verdict += " on this test set"
    return (
        f"{start} → evolved ({_which(history, kept)}, marked *):"
        f" {_percent(plain['test_accuracy'])} → {_percent(kept['test_accuracy'])},"
        f" {gained.points()}: {verdict}."
    )


def _plain(history: pd.DataFrame) -> pd.Series:
    """Return what the kept model is compared with."""
    control = history[history["status"] == PLAIN]
    return control.iloc[0] if len(control) else history.iloc[0]


def _which(history: pd.DataFrame, kept: pd.Series) -> str:
    """Say in words which model is kept."""
    if kept["status"] == COMMITTEE:
        return "the committee of views, which learned nothing from the pool"
    if kept["status"] == CO_TRAINED:
        return "the committee of views, co-trained on the pool"
    if kept["outcome"] != "refit":
        return f"loop {kept['loop']}"
    of = int(kept["status"].removeprefix("refit "))
    model = "the seed model, since no loop was better"
    if of:
        model = _which(history, history[history["loop"] == of].iloc[0])
    return f"{model}; refitted with human labels that the seed model had not"


def _held_out_line(groups: np.ndarray, params: StatisticsParams) -> str:
    smallest = _percent(of_one_run(groups, params))
    return (
        f"No test set was given: models are compared on {len(groups):,} labelled pairs"
        f" that were held out. To be found with a power of {params.power:.0%}, a"
        f" difference has to be about {smallest} points or more."
    )


def _row_lines(data_report: dict[str, Any]) -> list[str]:
    lines = []
    for part, rows in data_report["rows"].items():
        dropped = ", ".join(
            f"{count:,} {reason.replace('_', ' ')}"
            for reason, count in rows["dropped"].items()
        )
        lost = rows["read"] - rows["kept"]
        lines.append(
            f"Rows ({part}): {rows['read']:,} read, {rows['kept']:,} kept,"
            f" {lost:,} dropped{f' ({dropped})' if dropped else ''}."
        )
        named = {
            "Columns with text that were not used": rows["unused_columns"],
            "Files that were not read": rows["unread_files"],
        }
        for what, found in named.items():
            if found:
                lines.append(f"{what} ({part}): {_listed(found)}.")
    for one in data_report["split_by_pair"]:
        lines.append(
            f"On several sides of the split: the prompt {one['prompt']!r} with its"
            f" {one['rows']:,} pairs."
        )
    return lines


def _listed(names: Collection[str], most: int = 10) -> str:
    shown = ", ".join(list(names)[:most])
    return f"{shown} and {len(names) - most:,} more" if len(names) > most else shown


def _length_line(history: pd.DataFrame) -> str:
    trained = history.dropna(subset=["trained_pairs"])
    over, equal = (
        ", ".join(f"{count:,.0f}" for count in trained[name])
        for name in ("overlong_pairs", "equal_pairs")
    )
    return (
        f"Training pairs above reward.max_length, by loop: {over}; dropped since"
        f" truncation made their responses equal: {equal}."
    )


def _self_labels(row: Any) -> str:
    known = not pd.isna(row.self_label_accuracy)
    return _percent(row.self_label_accuracy) if known or not row.selected else "unknown"


def _outcome(row: Any) -> str:
    if not pd.isna(row.stop_reason) and row.stop_reason != row.outcome:
        return f"{row.outcome} ({row.stop_reason})"
    return str(row.outcome)


def _interval(row: Any) -> str:
    if pd.isna(row.test_accuracy):
        return ""
    if pd.isna(row.test_accuracy_low):
        return _percent(row.test_accuracy)  # of one prompt there is none
    low, high = _percent(row.test_accuracy_low), _percent(row.test_accuracy_high)
    return f"{_percent(row.test_accuracy)} [{low}, {high}]"


def _percent(share: Any, digits: int = 1) -> str:
    return "" if pd.isna(share) else f"{100 * share:.{digits}f}"


def _number(value: Any) -> str:
    return "" if pd.isna(value) else f"{value:.3f}"
