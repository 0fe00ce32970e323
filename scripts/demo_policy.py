"""The policy on the demo: what PPO does for the gold reward, and where it goes wrong.

Usage: python scripts/demo_policy.py [--seeds 0 1 2] [--long-seed 0] [--kept-only]

World, split and weights are redrawn with each seed. Every heavy step is a job of the
store, so an interrupted run is taken up by running the command again. Writes
docs/policy.md, docs/policy.json and docs/figures/overoptimisation.*, after each part.
"""

from __future__ import annotations

import argparse
import logging
import os
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from demo_road import ROOT, build, parameters

from ser_kedro.ablations import arms
from ser_kedro.ablations.control_loop import ControlLoop
from ser_kedro.launch.executor import run
from ser_kedro.policy.answers import AnswersJob
from ser_kedro.policy.ppo_job import PpoJob, PpoOutputs
from ser_kedro.policy.ppo_params import PpoParams
from ser_kedro.policy_evaluation.evaluate import gold_of_answers
from ser_kedro.policy_evaluation.overoptimisation import figure, find_overoptimisation
from ser_kedro.policy_evaluation.params import PolicyEvaluationParams
from ser_kedro.preferences.demo_world.world import WorldParams
from ser_kedro.preferences.split_job import SplitOutputs
from ser_kedro.statistics.estimate import Estimate, Floats
from ser_kedro.statistics.intervals import infer, of_their_own
from ser_kedro.store.json_io import write_json
from ser_kedro.store.references import PROJECT_VARIABLE, ModelRef, TableRef
from ser_kedro.store.tables import read_table

DOCS = ROOT / "docs"
NAMES = {
    "seed": "seed reward model",
    "evolved": "evolved reward model",
    "full": "reward model of all labels",
}
# A run without a penalty, several times as long as the demo's.
LONG = {
    "steps": 300,
    "kl_coefficient": 0.0,
    "adaptive_kl": False,
    "kl_bound": 1e6,
    "eval_steps": 5,
}
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Draw:
    """One draw of the demo: its road, its world and its parameters."""

    road: ControlLoop
    tables: SplitOutputs
    world: WorldParams
    ppo: PpoParams
    evaluation: PolicyEvaluationParams

    @classmethod
    def of(cls, seed: int) -> Draw:
        """Run the road up to the seed model."""
        values = parameters({})
        world = {**values["data"]["world"], "seed": seed}
        road, tables = build(seed)
        return cls(
            road,
            tables,
            WorldParams.model_validate(world),
            PpoParams.model_validate(values["ppo"]),
            PolicyEvaluationParams.model_validate(values["policy_evaluation"]),
        )

    def reward_models(self, wanted: list[str]) -> dict[str, ModelRef]:
        """Return the reward models of some arms."""
        makers = {
            "seed": lambda road: road.seed_model(),
            "evolved": lambda road: arms.ser(road).model,
            "full": lambda road: arms.full(road).model,
        }
        return {arm: makers[arm](self.road) for arm in wanted}

    def train(self, reward_model: ModelRef, **changes: Any) -> PpoOutputs:
        """Train a policy against a reward model, as the node of ``ppo`` does."""
        job = PpoJob(
            sft_model=self.road.data.sft_model,
            reward_model=reward_model,
            prompts=self.tables["ppo_prompts"],
            params=PpoParams.model_validate(self.ppo.model_dump() | changes),
            scoring=self.road.reward.scoring,
            gold=self.world,
            seed=self.road.seed,
        )
        begun = time.monotonic()
        outputs = run(job, self.road.launcher)
        print(f"ppo {job.fingerprint[:12]}: {time.monotonic() - begun:.0f} s")
        return outputs

    def answers(self, model: ModelRef) -> Any:
        """Return a model's answers to prompts of the test pairs."""
        job = AnswersJob(
            model=model,
            start=self.road.data.sft_model,
            prompts=self.tables["test_pairs"],
            count=self.evaluation.prompts,
            batch_size=self.evaluation.batch_size,
            params=self.ppo,
            seed=self.road.seed,
        )
        return read_table(run(job, self.road.launcher)["answers"])

    def gold(self, answers: Any) -> Floats:
        """Return the gold rewards of answers, shape ``(n,)``."""
        return gold_of_answers(self.world, answers)


def held_out(history: TableRef) -> list[dict[str, Any]]:
    """Return the rows of the steps at which the policy was evaluated."""
    rows: list[dict[str, Any]] = read_table(history).to_pylist()
    return [row for row in rows if row["held_out_kl"] is not None]


def matched_steps(histories: dict[str, list[dict[str, Any]]]) -> dict[str, int]:
    """Return for each arm the step of its second half nearest to a common KL.

    The common one is the mean of the arms' medians over that half.
    """
    halves = {
        arm: [row for row in rows if row["step"] > rows[-1]["step"] / 2]
        for arm, rows in histories.items()
    }
    medians = [
        float(np.median([row["held_out_kl"] for row in rows]))
        for rows in halves.values()
    ]
    common = float(np.mean(medians))
    return {
        arm: min(rows, key=lambda row: abs(row["held_out_kl"] - common))["step"]
        for arm, rows in halves.items()
    }


def kept(draw: Draw, models: dict[str, ModelRef]) -> dict[str, Any]:
    """Return answers of the SFT model, and of what ``kedro run`` would keep."""
    made = draw.train(models["evolved"])
    return {
        "sft": draw.answers(draw.road.data.sft_model),
        "kept": draw.answers(made["policy"]),
    }


def matched(
    draw: Draw, models: dict[str, ModelRef]
) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]], dict[str, int]]:
    """Return answers at a common KL by arm, the arms' evaluations, and their steps."""
    trained = {arm: draw.train(model) for arm, model in models.items()}
    histories = {arm: held_out(made["history"]) for arm, made in trained.items()}
    steps = matched_steps(histories)
    answers = {}
    for arm, step in steps.items():
        # The same run, ended earlier: PPO has no schedule that knows its length.
        same = step == histories[arm][-1]["step"]
        made = trained[arm] if same else draw.train(models[arm], steps=step)
        answers[arm] = draw.answers(made["last_policy"])
    return answers, histories, steps


def one_seed(seed: int, kept_only: bool) -> tuple[dict[str, Any], dict[str, Floats]]:
    """Return the figures of one draw, and the gold rewards a prompt by policy."""
    draw = Draw.of(seed)
    models = draw.reward_models(["evolved"] if kept_only else list(NAMES))
    answers = kept(draw, models)
    row: dict[str, Any] = {
        "seed": seed,
        "loop_kept": models["evolved"] != draw.road.seed_model(),
    }
    if not kept_only:
        others, histories, row["matched_steps"] = matched(draw, models)
        answers |= others
        row["history"] = {
            arm: [
                {"step": each["step"]}
                | {k: each[f"held_out_{k}"] for k in ("reward", "gold", "kl")}
                for each in rows
            ]
            for arm, rows in histories.items()
        }
    gold = {name: draw.gold(table) for name, table in answers.items()}
    row["gold"] = {name: float(values.mean()) for name, values in gold.items()}
    for figure_name in ("kl", "tokens"):
        row[figure_name] = {
            name: float(np.mean(table[figure_name].to_numpy()))
            for name, table in answers.items()
        }
    return row, gold


def long_run(seed: int) -> dict[str, Any]:
    """Train against the seed's evolved model for long, without a penalty; draw it."""
    draw = Draw.of(seed)
    made = draw.train(arms.ser(draw.road).model, **LONG)
    rows = held_out(made["history"])
    steps = [row["step"] for row in rows]
    proxy, gold, kl = (
        [row[f"held_out_{name}"] for row in rows] for name in ("reward", "gold", "kl")
    )
    point = find_overoptimisation(steps, proxy, gold)
    drawn = figure(steps, proxy, gold, point)
    folder = DOCS / "figures"
    folder.mkdir(exist_ok=True)
    drawn.write_image(folder / "overoptimisation.svg", width=900, height=480)
    columns = {"steps": steps, "proxy": proxy, "gold": gold, "kl": kl}
    found = {"seed": seed, "parameters": LONG, "point": asdict(point), **columns}
    write_json(folder / "overoptimisation.json", found)
    return found


def compare(golds: list[dict[str, Floats]]) -> dict[str, Estimate]:
    """Return the differences that are asked for, over draws and prompts, paired."""
    asked = {
        "kept − SFT": ("kept", "sft"),
        **{f"{arm} − SFT": (arm, "sft") for arm in NAMES},
        "evolved − seed": ("evolved", "seed"),
        "full − seed": ("full", "seed"),
        "full − evolved": ("full", "evolved"),
    }
    return {
        name: _over_draws([gold[a] - gold[b] for gold in golds])
        for name, (a, b) in asked.items()
        if a in golds[0] and b in golds[0]
    }


def _over_draws(values: list[Floats]) -> Estimate:
    contrast = infer(of_their_own(values))
    low, high = contrast.bounds(CONFIDENCE)
    return Estimate(float(contrast.value), float(low), float(high))


def page(found: dict[str, Any]) -> str:
    """Return docs/policy.md."""
    rows, gains = found["seeds"], found["differences"]
    lines = [
        "# The policy on the demo world",
        "",
        f"Every figure here was printed by `{found['command']}`; the numbers are in"
        " [policy.json](policy.json). World, split and weights are redrawn with each"
        " seed. Gold rewards are means over"
        f" {found['prompts']} prompts of the test pairs, which no training has seen;"
        " the answers of the demo's own data have a mean near 0 and a deviation near"
        " 1. Intervals: 95 %, paired on prompts, over seeds as well as prompts where"
        " there are several seeds ([statistics.md](statistics.md)).",
        "",
        "## PPO against its start",
        "",
        "| seed | SFT | PPO as kept (evolved reward model) | KL | tokens: SFT | PPO |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['seed']} | {row['gold']['sft']:.2f} | {row['gold']['kept']:.2f}"
            f" | {row['kl']['kept']:.1f} | {row['tokens']['sft']:.1f}"
            f" | {row['tokens']['kept']:.1f} |"
        )
    lines += [
        "",
        f"Gain in gold reward: {_gain(gains['kept − SFT'])}."
        " This is what `kedro run --pipelines ppo` keeps: the policy with the best"
        " held-out *proxy* reward within the bound on the KL.",
    ]
    if "matched_steps" in rows[0]:
        lines += _matched(rows, gains)
    if (long := found.get("overoptimisation")) is not None:
        lines += ["", *_long(long)]
    return "\n".join(lines) + "\n"


def _matched(rows: list[dict[str, Any]], gains: dict[str, Any]) -> list[str]:
    lines = [
        "",
        "## Reward models at matched KL",
        "",
        "For each seed a common KL is the mean over the arms of the median held-out KL"
        " in the second half of their runs; of each arm the step of that half nearest"
        " to it is taken. KL below is that on the test prompts.",
        "",
        "| seed | SFT | seed RM | evolved RM | full-label RM | KL: seed | evolved"
        " | full | a loop was kept |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        figures = [f"{row['gold'][name]:.2f}" for name in ("sft", *NAMES)]
        figures += [f"{row['kl'][arm]:.1f}" for arm in NAMES]
        kept_loop = "yes" if row["loop_kept"] else "no: evolved is the seed RM"
        cells = [str(row["seed"]), *figures, kept_loop]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "| difference in gold reward | mean [95 %] |", "|---|---|"]
    return lines + [f"| {name} | {_gain(gain)} |" for name, gain in gains.items()]


def _long(long: dict[str, Any]) -> list[str]:
    point = long["point"]
    verdict = (
        "the run is over-optimised from there on"
        if point["found"]
        else "no fall beyond the noise was found in this run"
    )
    kl = dict(zip(long["steps"], long["kl"], strict=True))
    return [
        "## Over-optimisation",
        "",
        f"Seed {long['seed']}, the evolved reward model, {long['parameters']['steps']}"
        " rollouts and no penalty on the KL. The gold reward (moving mean over five"
        f" evaluations) is highest at step {point['step']} (KL"
        f" {kl[point['step']]:.0f} nats), {point['gold_at_peak']:.2f}, and"
        f" {point['gold_at_end']:.2f} at the end; the maximised reward goes from"
        f" {point['proxy_at_peak']:.3f} to {point['proxy_at_end']:.3f} meanwhile:"
        f" {verdict}.",
        "",
        "![Proxy and gold reward over a long run](figures/overoptimisation.svg)",
    ]


def _gain(gain: dict[str, float]) -> str:
    return f"{gain['value']:+.2f} [{gain['low']:+.2f}, {gain['high']:+.2f}]"


def write(found: dict[str, Any]) -> None:
    """Write the page and its numbers."""
    write_json(DOCS / "policy.json", found)
    (DOCS / "policy.md").write_text(page(found), "utf-8")


def main() -> None:
    """Run the seeds one after the other, then the long run."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    os.environ[PROJECT_VARIABLE] = str(ROOT)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--long-seed", type=int, default=0)
    parser.add_argument(
        "--kept-only",
        action="store_true",
        help="no policies of other reward models",
    )
    given = parser.parse_args()
    seeds = " ".join(map(str, given.seeds))
    found: dict[str, Any] = {
        "command": f"python scripts/demo_policy.py --seeds {seeds}"
        f" --long-seed {given.long_seed}" + (" --kept-only" if given.kept_only else ""),
        "seeds": [],
    }
    golds: list[dict[str, Floats]] = []
    for seed in given.seeds:
        row, gold = one_seed(seed, given.kept_only)
        found["seeds"].append(row)
        golds.append(gold)
        found["prompts"] = len(gold["sft"])
        differences = compare(golds)
        found["differences"] = {n: asdict(d) for n, d in differences.items()}
        print({"seed": seed, **row["gold"], "kl": row["kl"]})
        write(found)
    found["overoptimisation"] = long_run(given.long_seed)
    write(found)
    print((DOCS / "policy.md").read_text("utf-8"))


if __name__ == "__main__":
    main()
