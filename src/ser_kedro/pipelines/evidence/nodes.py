"""Nodes of ``evidence``: arms on several draws, and the label-efficiency curve."""

from __future__ import annotations

from typing import Any

from ser_kedro.evidence.arm_params import EvidenceParams
from ser_kedro.evolution.params import EvolutionParams
from ser_kedro.launch.params import LauncherParams
from ser_kedro.launch.reference import Reference
from ser_kedro.launch.run import run
from ser_kedro.pipelines.self_evolve.loops import max_loops
from ser_kedro.preferences.source import PreferenceSource
from ser_kedro.preferences.split import SplitParams
from ser_kedro.reward.params import ModelParams, RewardParams, SftParams

Gathered = tuple[Reference, list[dict[str, Any]]]


def compare_arms(
    raw_preferences: PreferenceSource,
    data_split: SplitParams,
    model: ModelParams,
    sft: SftParams,
    reward: RewardParams,
    self_evolve: EvolutionParams,
    evidence: EvidenceParams,
    launcher: LauncherParams,
) -> Gathered:
    """Run every arm on every draw; return the rewards of the test pairs."""
    cells = [
        (arm, seed, data_split.labeled_share)
        for seed in evidence.seeds
        for arm in evidence.arms
    ]
    given = raw_preferences, data_split, model, sft, reward, self_evolve, evidence
    return _gather(cells, *given, launcher)


def label_efficiency(
    raw_preferences: PreferenceSource,
    data_split: SplitParams,
    model: ModelParams,
    sft: SftParams,
    reward: RewardParams,
    self_evolve: EvolutionParams,
    evidence: EvidenceParams,
    launcher: LauncherParams,
) -> Gathered:
    """Run seed and SER for each share of labels; where all are, nothing evolves."""
    cells = [
        (arm, seed, share)
        for seed in evidence.seeds
        for share in evidence.shares
        for arm in (("seed", "ser") if share < 1 else ("full",))
    ]
    given = raw_preferences, data_split, model, sft, reward, self_evolve, evidence
    return _gather(cells, *given, launcher)


def _gather(
    cells: list[tuple[str, int, float]],
    source: PreferenceSource,
    split: SplitParams,
    model: ModelParams,
    sft: SftParams,
    reward: RewardParams,
    evolution: EvolutionParams,
    evidence: EvidenceParams,
    launcher: LauncherParams,
) -> Gathered:
    from ser_kedro.evidence.outcome_job import GatherJob
    from ser_kedro.pipelines.evidence.draws import Cell, Settings, run_cells

    settings = Settings(
        source=source,
        split=split,
        model=model,
        sft=sft,
        reward=reward,
        evolution=evolution,
        evidence=evidence,
        loops=evolution.last_loop(max_loops()),
        launcher=launcher,
    )
    # All labels: those of the split's own share, and the pool's given back.
    planned = [
        Cell(arm, seed, share)
        if share < 1
        else Cell(arm, seed, split.labeled_share, shown_as=share)
        for arm, seed, share in cells
    ]
    results = run_cells(settings, planned)
    job = GatherJob(parts=tuple(result.outcomes for result in results))
    history = [row for result in results for row in result.history]
    return run(job, launcher)["outcomes"], history
