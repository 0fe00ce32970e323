"""Policies against their start, and against each other's reward model.

Each seed draws world, split and weights anew. A policy is trained against the reward
model of the human labels alone, of self-evolution, and of all labels; they are compared
at a common distance from their start, since a reward model that lets a policy go
further is not the better one for it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from plotly.graph_objects import Figure

from ser_kedro.ablations import methods
from ser_kedro.ablations.control_loop import ControlLoop
from ser_kedro.ablations.params import PolicyComparisonParams
from ser_kedro.ablations.runs import build
from ser_kedro.ablations.settings import AblationSettings
from ser_kedro.errors import ParameterError
from ser_kedro.launch.executor import run
from ser_kedro.policy.answers_job import AnswersJob
from ser_kedro.policy.ppo_job import PpoJob, PpoOutputs
from ser_kedro.policy.ppo_params import PpoParams
from ser_kedro.policy_evaluation.evaluate import gold_of_answers
from ser_kedro.policy_evaluation.overoptimisation import figure, find_overoptimisation
from ser_kedro.policy_evaluation.params import PolicyEvaluationParams
from ser_kedro.preferences.demo_world.world import WorldParams
from ser_kedro.preferences.split_job import SplitOutputs
from ser_kedro.statistics.estimate import Estimate, Floats
from ser_kedro.statistics.intervals import infer, of_their_own
from ser_kedro.store.references import ModelRef, TableRef
from ser_kedro.store.tables import read_table

logger = logging.getLogger(__name__)

Rows = list[dict[str, Any]]
REWARD_MODELS: dict[str, Callable[[ControlLoop], ModelRef]] = {
    "seed": lambda loop: loop.seed_model(),
    "evolved": lambda loop: methods.ser(loop.honest()).model,
    "full": lambda loop: methods.full(loop).model,
}
# Differences that are reported, by policy; "kept" is what ``kedro run`` keeps.
DIFFERENCES = (
    ("kept", "sft"),
    *((name, "sft") for name in REWARD_MODELS),
    ("evolved", "seed"),
    ("full", "seed"),
    ("full", "evolved"),
)


@dataclass(frozen=True)
class PolicySettings:
    """What the policies of all seeds share.

    Attributes:
        ablations: The parameters of every step up to the reward model.
        ppo: How policies are trained.
        evaluation: How they are asked.
        comparison: Which policies, with which seeds.
    """

    ablations: AblationSettings
    ppo: PpoParams
    evaluation: PolicyEvaluationParams
    comparison: PolicyComparisonParams


@dataclass(frozen=True)
class _Seed:
    """One seed: its loop, its tables and its world."""

    settings: PolicySettings
    loop: ControlLoop
    tables: SplitOutputs
    world: WorldParams

    @classmethod
    def of(cls, settings: PolicySettings, seed: int) -> _Seed:
        world = settings.ablations.source.known_world
        if world is None:
            raise ParameterError(
                "policy_comparison: needs the demo world, whose gold reward is known;"
                " run it without --env, or with one of format demo_world"
            )
        loop, tables = build(settings.ablations, seed)
        return cls(settings, loop, tables, world.model_copy(update={"seed": seed}))

    def train(self, reward_model: ModelRef, **changes: Any) -> PpoOutputs:
        """Train a policy against a reward model, as the node of ``ppo`` does."""
        params = self.settings.ppo.model_dump() | changes
        job = PpoJob(
            sft_model=self.loop.data.sft_model,
            reward_model=reward_model,
            prompts=self.tables["ppo_prompts"],
            params=PpoParams.model_validate(params),
            scoring=self.loop.reward.scoring,
            gold=self.world,
            seed=self.loop.seed,
        )
        return run(job, self.loop.launcher)

    def answers(self, model: ModelRef) -> pa.Table:
        """Return a model's answers to prompts of the test pairs."""
        job = AnswersJob(
            model=model,
            start=self.loop.data.sft_model,
            prompts=self.tables["test_pairs"],
            count=self.settings.evaluation.prompts,
            batch_size=self.settings.evaluation.batch_size,
            params=self.settings.ppo,
            seed=self.loop.seed,
        )
        return read_table(run(job, self.loop.launcher)["answers"])


def compare_policies(settings: PolicySettings) -> tuple[dict[str, Any], Figure]:
    """Train the policies of every seed, and one for too long.

    Returns:
        The figures: ``seeds`` (a row a seed), ``differences`` in gold reward with
        intervals over seeds and prompts, ``prompts``, ``overoptimisation``; and the
        figure of the long run.

    Raises:
        ParameterError: If the gold reward is not known.
    """
    rows, golds = zip(
        *(one_seed(settings, seed) for seed in settings.comparison.seeds), strict=True
    )
    long, drawn = long_run(settings)
    found = {
        "seeds": list(rows),
        "prompts": settings.evaluation.prompts,
        "differences": differences(golds, settings.ablations.evaluation.confidence),
        "overoptimisation": long,
    }
    return found, drawn


def one_seed(
    settings: PolicySettings, seed: int
) -> tuple[dict[str, Any], dict[str, Floats]]:
    """Return the figures of one seed, and the gold rewards a prompt by policy."""
    own = _Seed.of(settings, seed)
    models = {name: make(own.loop) for name, make in REWARD_MODELS.items()}
    trained = {name: own.train(model) for name, model in models.items()}
    histories = {name: held_out(made["history"]) for name, made in trained.items()}
    steps = matched_steps(histories)
    answers = {
        "sft": own.answers(own.loop.data.sft_model),
        "kept": own.answers(trained["evolved"]["policy"]),
    }
    for name, step in steps.items():
        # The same run, ended earlier: PPO has no schedule that knows its length.
        same = step == histories[name][-1]["step"]
        made = trained[name] if same else own.train(models[name], steps=step)
        answers[name] = own.answers(made["last_policy"])
    gold = {name: gold_of_answers(own.world, table) for name, table in answers.items()}
    means = {name: float(values.mean()) for name, values in gold.items()}
    logger.info("seed %d: mean gold rewards %s", seed, means)
    row = {
        "seed": seed,
        "loop_kept": models["evolved"] != models["seed"],
        "matched_steps": steps,
        "history": {name: _curve(rows) for name, rows in histories.items()},
        "gold": means,
        **{
            column: {
                name: float(np.mean(table[column].to_numpy()))
                for name, table in answers.items()
            }
            for column in ("kl", "tokens")
        },
    }
    return row, gold


def held_out(history: TableRef) -> Rows:
    """Return the rows of the steps at which the policy was evaluated."""
    rows: Rows = read_table(history).to_pylist()
    return [row for row in rows if row["held_out_kl"] is not None]


def _curve(rows: Rows) -> Rows:
    columns = ("reward", "gold", "kl")
    return [
        {"step": row["step"], **{name: row[f"held_out_{name}"] for name in columns}}
        for row in rows
    ]


def matched_steps(histories: Mapping[str, Rows]) -> dict[str, int]:
    """Return for each policy the step of its second half nearest to a common KL.

    The common one is the mean of the policies' medians over that half.
    """
    halves = {
        name: [row for row in rows if row["step"] > rows[-1]["step"] / 2]
        for name, rows in histories.items()
    }
    medians = [
        float(np.median([row["held_out_kl"] for row in rows]))
        for rows in halves.values()
    ]
    common = float(np.mean(medians))
    return {
        name: min(rows, key=lambda row: abs(row["held_out_kl"] - common))["step"]
        for name, rows in halves.items()
    }


def differences(
    golds: Sequence[Mapping[str, Floats]], confidence: float
) -> dict[str, dict[str, float]]:
    """Return the differences in gold reward over seeds and prompts, paired."""
    return {
        f"{one} − {other}": asdict(
            _over_seeds([gold[one] - gold[other] for gold in golds], confidence)
        )
        for one, other in DIFFERENCES
    }


def _over_seeds(values: list[Floats], confidence: float) -> Estimate:
    contrast = infer(of_their_own(values))
    low, high = contrast.bounds(confidence)
    return Estimate(float(contrast.value), float(low), float(high))


def long_run(settings: PolicySettings) -> tuple[dict[str, Any], Figure]:
    """Train against an evolved model for long, without a penalty; draw what happens."""
    seed, changes = settings.comparison.long_seed, settings.comparison.long_run
    own = _Seed.of(settings, seed)
    made = own.train(REWARD_MODELS["evolved"](own.loop), **changes)
    rows = _curve(held_out(made["history"]))
    steps, proxy, gold, kl = (
        [row[name] for row in rows] for name in ("step", "reward", "gold", "kl")
    )
    point = find_overoptimisation(steps, proxy, gold)
    found = {
        "seed": seed,
        "parameters": changes,
        "point": asdict(point),
        "kl_at_peak": dict(zip(steps, kl, strict=True))[point.step],
        **{"steps": steps, "proxy": proxy, "gold": gold, "kl": kl},
    }
    return found, figure(steps, proxy, gold, point)
