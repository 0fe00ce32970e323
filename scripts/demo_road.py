"""The demo's road as a library: the project's parameters and jobs, without Kedro."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from ser_kedro.ablations import draws
from ser_kedro.ablations.control_loop import ControlLoop
from ser_kedro.ablations.params import EvidenceParams
from ser_kedro.ablations.settings import Settings
from ser_kedro.configuration import ProjectConfigLoader
from ser_kedro.evaluation.history import correct_pairs
from ser_kedro.evaluation.params import EvaluationParams
from ser_kedro.pipelines.self_evolve.loops import max_loops
from ser_kedro.preferences.source import PreferenceSource
from ser_kedro.preferences.split import SplitParams
from ser_kedro.preferences.split_job import SplitOutputs
from ser_kedro.self_evolution import voters
from ser_kedro.self_evolution.params import EvolutionParams
from ser_kedro.store.references import ModelRef, TableRef
from ser_kedro.training.params import ModelParams, RewardParams, SftParams

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


def build(
    seed: int, overrides: dict[str, Any] | None = None
) -> tuple[ControlLoop, SplitOutputs]:
    """Return the road of one draw, all of it drawn from ``seed``, and its tables."""
    values = parameters(overrides or {})
    evolution = EvolutionParams.model_validate(values["self_evolve"])
    settings = Settings(
        source=PreferenceSource.model_validate(values["data"]),
        split=SplitParams.model_validate(values["data_split"]),
        model=ModelParams.model_validate(values["model"]),
        sft=SftParams.model_validate(values["sft"]),
        reward=RewardParams.model_validate(values["reward"]),
        evolution=evolution,
        evidence=EvidenceParams.model_validate(values["evidence"]),
        reporting=EvaluationParams.model_validate(values["evaluation"]),
        loops=evolution.last_loop(max_loops()),
    )
    return draws.build(settings, seed)


def accuracy(road: ControlLoop, model: ModelRef, test_pairs: TableRef) -> float:
    """Return the model's accuracy on the test pairs, in [0, 1]."""
    scores = voters.score(model, test_pairs, road.reward, road.launcher)
    return float(correct_pairs(scores).mean())
