"""Several models label the pool together: what they agree on counts."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from ser_kedro.models.calibration import Calibration
from ser_kedro.models.scores import SCORES, ScoreOutputs
from ser_kedro.store.job import Job
from ser_kedro.store.references import TableRef
from ser_kedro.store.tables import read_table, write_table


class VoteJob(Job[ScoreOutputs]):
    """Join the scores of several models of the same pairs.

    Attributes:
        scores: One table of scores a voter, of the same rows.
        calibrations: Of each voter.
    """

    stage: ClassVar[str] = "votes"
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "pyarrow")

    scores: tuple[TableRef, ...]
    calibrations: tuple[Calibration, ...]

    @property
    def title(self) -> str:
        """What it does, for the log."""
        return f"Let {len(self.scores)} models vote on the pool"

    def work(self, workspace: Path) -> ScoreOutputs:
        """Write ``scores``: the voters' mean calibrated rewards; a dispute is a tie."""
        tables = [read_table(reference) for reference in self.scores]
        rewards = np.stack(
            [
                [
                    (table[name].to_numpy() - each.offset) / each.temperature
                    for name in ("reward_a", "reward_b")
                ]
                for table, each in zip(tables, self.calibrations, strict=True)
            ]
        )
        mean = vote(rewards)
        joined = tables[0]
        for place, name in enumerate(("reward_a", "reward_b")):
            index = SCORES.get_field_index(name)
            joined = joined.set_column(
                index, SCORES.field(name), [mean[place].astype(np.float32)]
            )
        output = write_table(
            workspace, "scores", joined.combine_chunks().to_batches(), SCORES
        )
        return {"scores": output}


def vote(rewards: np.ndarray) -> np.ndarray:
    """Return the mean rewards, and a tie where voters prefer different responses.

    Args:
        rewards: Calibrated rewards, shape ``(voters, 2, n)``.

    Returns:
        Rewards of shape ``(2, n)``.
    """
    for_a = np.sign(rewards[:, 0] - rewards[:, 1])
    agreed = np.all(for_a == for_a[0], axis=0)
    mean = rewards.mean(0)
    return np.where(agreed, mean, mean.mean(0))
