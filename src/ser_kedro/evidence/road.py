"""What the arms of one draw share, with and without the truth."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from ser_kedro.evidence.truth import TrueLabelsJob
from ser_kedro.evolution.params import EvolutionParams
from ser_kedro.launch.params import INLINE, LauncherParams
from ser_kedro.launch.reference import ModelRef, TableRef
from ser_kedro.launch.run import run
from ser_kedro.reward import steps
from ser_kedro.reward.params import RewardParams


@dataclass(frozen=True)
class Road:
    """What honest arms of one draw share; nothing here knows the pool's labels.

    Attributes:
        labeled_pairs: The few human labels.
        validation_pairs: Those that compare loops.
        unlabeled_pairs: The pool.
        sft_model: The model that reward models start from.
        reward: How reward models are trained.
        evolution: How the loop decides.
        loops: Loops at most.
        seed: Of all training.
        launcher: How jobs run.
    """

    labeled_pairs: TableRef
    validation_pairs: TableRef
    unlabeled_pairs: TableRef
    sft_model: ModelRef
    reward: RewardParams
    evolution: EvolutionParams
    loops: int
    seed: int
    launcher: LauncherParams = INLINE

    def train(self, *pairs: TableRef, **changes: Any) -> ModelRef:
        """Train a reward model from the SFT model on labelled tables.

        Args:
            pairs: The tables.
            changes: Of the reward parameters.
        """
        return steps.train_seed(
            sft_model=self.sft_model,
            labeled_pairs=pairs,
            validation_pairs=self.validation_pairs,
            params=self.reward.model_copy(update=changes),
            seed=self.seed,
            launcher=self.launcher,
        )

    def seed_model(self) -> ModelRef:
        """Return loop 0."""
        return self.train(self.labeled_pairs)


@dataclass(frozen=True, kw_only=True)
class ControlRoad(Road):
    """A road from which the truth can be seen.

    Attributes:
        audit_labels: What people preferred in the pool.
    """

    audit_labels: TableRef

    def honest(self) -> Road:
        """Return the same road without the truth."""
        kept = {each.name: getattr(self, each.name) for each in fields(Road)}
        return Road(**kept)

    def true_labels(self, limit: int | None = None) -> TableRef:
        """Return the pool, or the first of its pairs, with human labels."""
        job = TrueLabelsJob(
            pairs=self.unlabeled_pairs, audit=self.audit_labels, limit=limit
        )
        return run(job, self.launcher)["labeled"]
