"""The job that scores a table of pairs with a head on a frozen model."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from ser_kedro.models.scores import ScoreOutputs
from ser_kedro.store.job import Job
from ser_kedro.store.references import AnyTable, ModelRef, TableRef


class ScoreHeadJob(Job[ScoreOutputs]):
    """As ``ScoreJob``, of a head on a frozen model, from features.

    Attributes:
        model: From ``TrainHeadJob``.
        features: Of the pairs.
        pairs: As of ``ScoreJob``.
        rows: As there.
        member: Of a committee, the number of one member, from 0, which votes alone;
            ``None``: all of them.
    """

    stage: ClassVar[str] = "scores"
    libraries: ClassVar[tuple[str, ...]] = ("torch", "safetensors")

    model: ModelRef
    features: TableRef
    pairs: AnyTable
    rows: TableRef | None = None
    member: int | None = None

    @property
    def title(self) -> str:
        """What it does, for the log."""
        return f"Score {self.pairs.rows:,} pairs with a reward head"

    def work(self, workspace: Path) -> ScoreOutputs:
        """Write ``scores``: row, pair_id, reward_a, reward_b."""
        from ser_kedro.models.head import score_with_head

        scores = score_with_head(
            self.model.location,
            self.features,
            self.pairs,
            self.rows,
            workspace,
            member=self.member,
        )
        return {"scores": scores}
