"""What all runs of a comparison share."""

from __future__ import annotations

from dataclasses import dataclass

from ser_kedro.ablations.params import AblationParams
from ser_kedro.evaluation.params import EvaluationParams
from ser_kedro.launch.params import INLINE, LauncherParams
from ser_kedro.models.params import ModelParams
from ser_kedro.preferences.source import PreferenceSource
from ser_kedro.preferences.split import SplitParams
from ser_kedro.self_evolution.params import EvolutionParams
from ser_kedro.training.params import RewardParams, SftParams


@dataclass(frozen=True)
class AblationSettings:
    """The parameters of every step, and which methods to run.

    Attributes:
        source: The raw pairs; a demo world is drawn anew with each seed.
        split: How they are split.
        model: Which model.
        sft: How it is fine-tuned.
        reward: How reward models are trained.
        evolution: How the loop decides.
        ablations: Which methods, with which seeds.
        evaluation: Confidence and power of what is reported.
        max_loops: Loops at most.
        launcher: How jobs run.
    """

    source: PreferenceSource
    split: SplitParams
    model: ModelParams
    sft: SftParams
    reward: RewardParams
    evolution: EvolutionParams
    ablations: AblationParams
    evaluation: EvaluationParams
    max_loops: int
    launcher: LauncherParams = INLINE
