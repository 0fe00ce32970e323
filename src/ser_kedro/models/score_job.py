"""The job that scores a table of pairs."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from ser_kedro.models.scorer_job import ScorerJob
from ser_kedro.models.scores import ScoreOutputs
from ser_kedro.store.job import NOT_MINE
from ser_kedro.store.references import AnyTable, TableRef


class ScoreJob(ScorerJob[ScoreOutputs]):
    """Rewards of both responses of each pair of a table.

    Attributes:
        pairs: A table of pairs; ``a`` is its ``response_a`` or ``chosen``.
        rows: A table whose column ``row`` names the rows to score; ``None``: all.
    """

    stage: ClassVar[str] = "scores"
    distributed: ClassVar[bool] = True

    pairs: AnyTable
    rows: TableRef | None = None

    @property
    def title(self) -> str:
        """What it does, for the log."""
        return f"Score {self.pairs.rows:,} pairs"

    def work(self, workspace: Path) -> ScoreOutputs:
        """Write ``scores``: row, pair_id, reward_a, reward_b."""
        from ser_kedro.models.score_table import score_table

        scores = score_table(
            self.model.location, self.pairs, self.rows, self, workspace
        )
        return NOT_MINE if scores is None else {"scores": scores}
