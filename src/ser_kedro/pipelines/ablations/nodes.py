"""Nodes of the comparisons: methods, label efficiency, policies."""

from __future__ import annotations

from typing import Any

from ser_kedro.ablations.params import AblationParams, PolicyComparisonParams
from ser_kedro.ablations.settings import AblationSettings
from ser_kedro.evaluation.params import EvaluationParams
from ser_kedro.launch.params import LauncherParams
from ser_kedro.models.params import ModelParams
from ser_kedro.pipelines.self_evolve.loops import max_loops
from ser_kedro.policy.pool_params import PoolParams
from ser_kedro.policy.ppo_params import PpoParams
from ser_kedro.policy_evaluation.params import PolicyEvaluationParams
from ser_kedro.preferences.source import PreferenceSource
from ser_kedro.preferences.split import SplitParams
from ser_kedro.self_evolution.params import EvolutionParams
from ser_kedro.store.references import TableRef
from ser_kedro.training.params import RewardParams, SftParams

Gathered = tuple[TableRef, list[dict[str, Any]]]


def gather_settings(
    raw_preferences: PreferenceSource,
    data_split: SplitParams,
    model: ModelParams,
    sft: SftParams,
    pool: PoolParams,
    reward: RewardParams,
    self_evolve: EvolutionParams,
    ablations: AblationParams,
    evaluation: EvaluationParams,
    launcher: LauncherParams,
) -> AblationSettings:
    """Put together what all runs share."""
    return AblationSettings(
        raw_preferences,
        data_split,
        model,
        sft,
        pool,
        reward,
        self_evolve,
        ablations,
        evaluation,
        self_evolve.last_loop(max_loops()),
        launcher,
    )


def compare_methods(ablation_settings: AblationSettings) -> Gathered:
    """Run every method with every seed; return the rewards of the test pairs."""
    from ser_kedro.ablations import runs

    return runs.compare_methods(ablation_settings)


def label_efficiency(ablation_settings: AblationSettings) -> Gathered:
    """Run seed and SER for each share of labels; where all are, nothing evolves."""
    from ser_kedro.ablations import runs

    return runs.label_efficiency(ablation_settings)


def compare_policies(
    ablation_settings: AblationSettings,
    ppo: PpoParams,
    policy_evaluation: PolicyEvaluationParams,
    policy_comparison: PolicyComparisonParams,
) -> tuple[dict[str, Any], str, dict[str, str]]:
    """Train policies against three reward models a seed, and one for too long."""
    from ser_kedro.ablations import policy
    from ser_kedro.ablations.page.render import as_svg, render

    settings = policy.PolicySettings(
        ablation_settings, ppo, policy_evaluation, policy_comparison
    )
    found, figure = policy.compare_policies(settings)
    page = render(
        "policy.md.jinja",
        found=found,
        command=policy_comparison.command,
        confidence=ablation_settings.evaluation.confidence,
    )
    return found, page, as_svg({"overoptimisation": figure})
