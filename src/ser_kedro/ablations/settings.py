"""What all runs of a comparison share."""

from __future__ import annotations

from dataclasses import dataclass

from ser_kedro.ablations.methods import CONTROLS
from ser_kedro.ablations.params import AblationParams
from ser_kedro.errors import ParameterError
from ser_kedro.evaluation.params import EvaluationParams
from ser_kedro.launch.params import INLINE, LauncherParams
from ser_kedro.models.params import ModelParams
from ser_kedro.policy.pool_params import PoolParams
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
        pool: How prompts without answers are answered.
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
    pool: PoolParams
    reward: RewardParams
    evolution: EvolutionParams
    ablations: AblationParams
    evaluation: EvaluationParams
    max_loops: int
    launcher: LauncherParams = INLINE

    def check_truth(self) -> None:
        """Check that the pool's labels are known to the methods that need them.

        Raises:
            ParameterError: If they are not.
        """
        source, names = self.source, self.ablations.methods
        if not source.has_pool or source.pool_labels == "audit":
            return
        need = [
            name for name in names if self.ablations.variant(name).method in CONTROLS
        ]
        if need:
            raise ParameterError(
                f"ablations.methods: {', '.join(need)}: the labels of the pool are not"
                " known; leave them out, or give a pool with labels and"
                " data.pool_labels=audit"
            )

    def check_shares(self) -> None:
        """Check that labels can be hidden, as label efficiency does.

        Raises:
            ParameterError: If the pool comes without labels.
        """
        if self.source.has_pool:
            raise ParameterError(
                "label_efficiency hides labels of labelled pairs; leave pool_path out"
            )
