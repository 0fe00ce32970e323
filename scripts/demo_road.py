"""The demo's road as a library: the project's parameters and jobs, without Kedro."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from ser_kedro.configuration import ProjectConfigLoader
from ser_kedro.evidence.arms import Road
from ser_kedro.evidence.history import correct_pairs
from ser_kedro.evolution.params import EvolutionParams
from ser_kedro.launch.params import INLINE
from ser_kedro.launch.reference import Reference
from ser_kedro.launch.run import run
from ser_kedro.pipelines.self_evolve.loops import max_loops
from ser_kedro.policy.sft import SftJob
from ser_kedro.preferences.source import PreferenceSource
from ser_kedro.preferences.split import SplitParams
from ser_kedro.preferences.split_job import SplitJob
from ser_kedro.reward import steps
from ser_kedro.reward.params import ModelParams, RewardParams, SftParams

ROOT = Path(__file__).resolve().parents[1]


def parse_overrides(texts: list[str]) -> dict[str, Any]:
    """Return ``a.b=value`` texts as a nested dictionary."""
    tree: dict[str, Any] = {}
    for text in texts:
        path, value = text.split("=", 1)
        *parents, last = path.split(".")
        place = tree
        for name in parents:
            place = place.setdefault(name, {})
        place[last] = yaml.safe_load(value)
    return tree


def parameters(overrides: dict[str, Any]) -> dict[str, Any]:
    """Return the project's parameters with overrides, as ``kedro run`` has them."""
    loader = ProjectConfigLoader(
        str(ROOT / "conf"),
        env="local",
        runtime_params=overrides,
        base_env="base",
        default_run_env="local",
        merge_strategy={"parameters": "soft"},
    )
    return loader["parameters"]


def build(seed: int, overrides: dict[str, Any] | None = None) -> Road:
    """Run the road up to the seed model, all of it drawn from ``seed``."""
    values = parameters(overrides or {})
    world = {**values["data"]["world"], "seed": seed}
    source = PreferenceSource.model_validate({**values["data"], "world": world})
    split = SplitParams.model_validate(values["data_split"])
    tables = run(SplitJob(source=source, params=split, seed=seed))
    sft = SftJob(
        model=ModelParams.model_validate(values["model"]),
        pairs=tables["sft_pairs"],
        params=SftParams.model_validate(values["sft"]),
        seed=seed,
    )
    sft_model = run(sft)["model"]
    reward = RewardParams.model_validate(values["reward"])
    seed_model = steps.train_seed(
        sft_model=sft_model,
        labeled_pairs=(tables["labeled_pairs"],),
        validation_pairs=tables["validation_pairs"],
        params=reward,
        seed=seed,
        launcher=INLINE,
    )
    evolution = EvolutionParams.model_validate(values["self_evolve"])
    return Road(
        tables=tables,
        sft_model=sft_model,
        seed_model=seed_model,
        reward=reward,
        evolution=evolution,
        loops=evolution.last_loop(max_loops()),
        seed=seed,
    )


def test_scores(road: Road, model: Reference) -> Reference:
    """Return the model's scores of the test pairs."""
    return steps.score(model, road.tables["test_pairs"], road.reward, road.launcher)


def accuracy(road: Road, model: Reference) -> float:
    """Return the model's accuracy on the test pairs, in [0, 1]."""
    return float(correct_pairs(test_scores(road, model)).mean())
