"""Nodes of ``evidence``: arms on several draws, and the label-efficiency curve."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from ser_kedro.ablations.params import EvidenceParams
from ser_kedro.ablations.settings import Settings
from ser_kedro.evaluation.params import EvaluationParams
from ser_kedro.launch.executor import run
from ser_kedro.launch.params import LauncherParams
from ser_kedro.pipelines.self_evolve.loops import max_loops
from ser_kedro.preferences.source import PreferenceSource
from ser_kedro.preferences.split import SplitParams
from ser_kedro.self_evolution.params import EvolutionParams
from ser_kedro.store.references import TableRef
from ser_kedro.training.params import ModelParams, RewardParams, SftParams

if TYPE_CHECKING:
    from ser_kedro.ablations.draws import Cell

logger = logging.getLogger(__name__)

Gathered = tuple[TableRef, list[dict[str, Any]]]


def gather_settings(
    raw_preferences: PreferenceSource,
    data_split: SplitParams,
    model: ModelParams,
    sft: SftParams,
    reward: RewardParams,
    self_evolve: EvolutionParams,
    evidence: EvidenceParams,
    evaluation: EvaluationParams,
    launcher: LauncherParams,
) -> Settings:
    """Put together what all draws share."""
    return Settings(
        raw_preferences,
        data_split,
        model,
        sft,
        reward,
        self_evolve,
        evidence,
        evaluation,
        self_evolve.last_loop(max_loops()),
        launcher,
    )


def compare_arms(evidence_settings: Settings) -> Gathered:
    """Run every arm on every draw; return the rewards of the test pairs."""
    from ser_kedro.ablations.draws import Cell, foresee

    logger.info("evidence: %s", foresee(evidence_settings))
    share, arms = evidence_settings.split.labeled_share, evidence_settings.evidence.arms
    cells = [
        Cell(arm, seed, share)
        for seed in evidence_settings.evidence.seeds
        for arm in arms
    ]
    return _gather(evidence_settings, cells)


def label_efficiency(evidence_settings: Settings) -> Gathered:
    """Run seed and SER for each share of labels; where all are, nothing evolves."""
    from ser_kedro.ablations.draws import Cell

    # All labels: those of the split's own share, and the pool's given back.
    whole = ("full", evidence_settings.split.labeled_share, ("seed", 1.0))
    cells = [
        Cell(arm, seed, at, shown)
        for seed in evidence_settings.evidence.seeds
        for share in evidence_settings.evidence.shares
        for arm, at, shown in (
            (("seed", share, None), ("ser", share, None)) if share < 1 else (whole,)
        )
    ]
    return _gather(evidence_settings, cells)


def _gather(settings: Settings, cells: list[Cell]) -> Gathered:
    from ser_kedro.ablations.draws import run_cells
    from ser_kedro.ablations.outcome_job import GatherJob

    results = run_cells(settings, cells)
    job = GatherJob(parts=tuple(result.outcomes for result in results))
    history = [row for result in results for row in result.history]
    return run(job, settings.launcher)["outcomes"], history
