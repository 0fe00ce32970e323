"""What all draws of the evidence share."""

from __future__ import annotations

from dataclasses import dataclass

from ser_kedro.ablations.params import EvidenceParams
from ser_kedro.evaluation.params import EvaluationParams
from ser_kedro.launch.params import INLINE, LauncherParams
from ser_kedro.preferences.source import PreferenceSource
from ser_kedro.preferences.split import SplitParams
from ser_kedro.self_evolution.params import EvolutionParams
from ser_kedro.training.params import ModelParams, RewardParams, SftParams


@dataclass(frozen=True)
class Settings:
    """Parameters of the road, and which arms to run.

    Attributes:
        source: The raw pairs; a demo world is drawn anew with each seed.
        split: How they are split.
        model: Which model.
        sft: How it is fine-tuned.
        reward: How reward models are trained.
        evolution: How the loop decides.
        evidence: Which arms, on which draws.
        reporting: Confidence and power of what is said about them.
        loops: Loops at most.
        launcher: How jobs run.
    """

    source: PreferenceSource
    split: SplitParams
    model: ModelParams
    sft: SftParams
    reward: RewardParams
    evolution: EvolutionParams
    evidence: EvidenceParams
    reporting: EvaluationParams
    loops: int
    launcher: LauncherParams = INLINE
