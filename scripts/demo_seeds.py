"""The demo for several seeds, with its controls: what self-evolution is worth there.

Usage: python scripts/demo_seeds.py [--seeds 10]

Split, world and weights are all redrawn with each seed. Every heavy step is a job of
the store, so an interrupted run is taken up by running the command again. Writes
the demo's section of docs/results.md.
"""

from __future__ import annotations

import argparse
import logging
import os
from importlib.metadata import version
from typing import Any

import numpy as np
from demo_road import ROOT, build, correct_pairs, test_scores
from results_page import commit, write_section
from scipy import stats

from ser_kedro.evidence import arms
from ser_kedro.evidence.arms import Road
from ser_kedro.evidence.history import prompt_groups, self_label_accuracy
from ser_kedro.evidence.metrics import mean_by_group
from ser_kedro.evidence.params import EvaluationParams
from ser_kedro.launch.reference import PROJECT_VARIABLE

ARMS = ("seed", "evolved", "full", "leaky")


def one_seed(seed: int) -> dict[str, Any]:
    """Run all arms of one draw and return their figures."""
    road = build(seed)
    state = arms.evolve(road)
    models = {
        "seed": road.seed_model,
        "evolved": state.best,
        "full": arms.full(road),
        "leaky": arms.leaky(road),
    }
    right = {
        name: correct_pairs(test_scores(road, model)) for name, model in models.items()
    }
    gain = mean_by_group(
        right["evolved"] - right["seed"],
        prompt_groups(road.tables["test_pairs"]),
        EvaluationParams(),
    )
    return {
        "data": "demo",
        "seed": seed,
        **{key(name): float(values.mean()) for name, values in right.items()},
        "gain": gain.value,
        "gain_low": gain.low,
        "gain_high": gain.high,
        "kept_loop": state.best_loop,
        "loops": _loops(road, state.records[1:]),
    }


def _loops(road: Road, records: Any) -> list[dict[str, Any]]:
    audit = road.tables["audit_labels"]
    return [
        {
            "loop": record.loop,
            "status": record.status,
            "selected": record.selected,
            "outcome": str(record.outcome),
            "self_label_accuracy": self_label_accuracy(record.selection, audit)
            if record.selected
            else None,
            "test_accuracy": float(
                correct_pairs(test_scores(road, record.model)).mean()
            )
            if record.model
            else None,
        }
        for record in records
    ]


def interval(values: list[float]) -> str:
    """Return mean and 95 % t-interval over seeds, in per cent."""
    data = 100 * np.array(values)
    half = stats.t.ppf(0.975, len(data) - 1) * stats.sem(data) if len(data) > 1 else 0
    return f"{data.mean():.1f} [{data.mean() - half:.1f}, {data.mean() + half:.1f}]"


def page(rows: list[dict[str, Any]]) -> str:
    """Return the demo's section of the results page."""
    lines = [
        "## The demo world, all of it redrawn with each seed",
        "",
        f"Command: `python scripts/demo_seeds.py --seeds {len(rows)}`"
        f" (commit {commit()}, torch {version('torch')}, trl {version('trl')},"
        f" transformers {version('transformers')}; {os.cpu_count()} cores).",
        "Accuracy in per cent on 4,000 test pairs with noisy labels; intervals of 95 %,"
        " of a gain by bootstrap over prompts, of a mean by Student's t over seeds.",
        "",
        "| seed | seed model | evolved | gain | full labels | leaky control"
        " | kept loop |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        gain = f"{100 * row['gain']:+.1f} [{100 * row['gain_low']:+.1f},"
        lines.append(
            f"| {row['seed']} | {100 * row['seed_model']:.1f}"
            f" | {100 * row['evolved']:.1f} | {gain} {100 * row['gain_high']:+.1f}]"
            f" | {100 * row['full']:.1f} | {100 * row['leaky']:.1f}"
            f" | {row['kept_loop']} |"
        )
    means = {arm: interval([row[key(arm)] for row in rows]) for arm in ARMS}
    gain_mean = interval([row["gain"] for row in rows])
    worse = sum(row["gain_high"] < 0 for row in rows)
    better = sum(row["gain_low"] > 0 for row in rows)
    lines += [
        f"| **mean** | {means['seed']} | {means['evolved']} | {gain_mean}"
        f" | {means['full']} | {means['leaky']} | |",
        "",
        f"The kept model was significantly better than its seed model in {better} of"
        f" {len(rows)} draws and significantly worse in {worse}.",
        "`full labels` trains on every human label of the RM part; `leaky control` is"
        " self-evolution whose wrong self-labels the truth removes, as the authors'"
        " deleted script did: it bounds what a filter could gain and is no method.",
        "",
        "Loop by loop (accuracy of the self-labels of its selection → test accuracy"
        " after it; outcome):",
        "",
    ]
    for row in rows:
        steps = "; ".join(
            f"loop {loop['loop']} status {loop['status']}, {loop['selected']:,} pairs,"
            f" {_share(loop['self_label_accuracy'])} → {_share(loop['test_accuracy'])},"
            f" {loop['outcome']}"
            for loop in row["loops"]
        )
        lines.append(f"- seed {row['seed']}: {steps}.")
    return "\n".join(lines) + "\n"


def key(arm: str) -> str:
    """Return the key of an arm's accuracy in a row."""
    return "seed_model" if arm == "seed" else arm


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def main() -> None:
    """Run the seeds one after the other and write the page after each."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    os.environ[PROJECT_VARIABLE] = str(ROOT)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    rows: list[dict[str, Any]] = []
    for seed in range(parser.parse_args().seeds):
        row = one_seed(seed)
        rows.append(row)
        print({name: row[name] for name in ("seed", *map(key, ARMS), "kept_loop")})
        write_section("demo", page(rows))


if __name__ == "__main__":
    main()
