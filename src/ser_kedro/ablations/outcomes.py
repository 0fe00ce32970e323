"""The outcomes of all arms, as the statistics read them: right, wrong or tied."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ser_kedro.ablations.outcome_schema import OUTCOMES
from ser_kedro.errors import DataError
from ser_kedro.statistics.estimate import correct
from ser_kedro.statistics.intervals import Cells

_ARM = ["arm", "share", "seed"]
# An arm at a share of labels.
Key = tuple[str, float]


class Outcomes:
    """The arms of one data set."""

    def __init__(self, table: pa.Table, data: str) -> None:
        """Take the rows of a data set.

        Args:
            table: Rows of ``OUTCOMES``.
            data: Name of the data set.

        Raises:
            DataError: If a pair is there twice and differs, or an arm lacks some of
                the pairs that another arm of the same draw was tested on.
        """
        self.data = data
        own = table.select(OUTCOMES.names).filter(pc.equal(table["data"], data))
        frame = own.to_pandas()
        pairs, groups = (
            pd.factorize(frame[name], sort=True)[0] for name in ("pair_id", "group")
        )
        frame = frame.assign(pair=pairs, prompt=groups)
        # Comparison and label efficiency share some arms, out of one job.
        one = [*_ARM, "pair"]
        rewards = ["chosen_reward", "rejected_reward"]
        frame = frame.drop_duplicates([*one, *rewards], ignore_index=True)
        if frame.duplicated(one).any():
            raise DataError(
                f"outcomes of {data}: one arm has a pair twice, with other rewards; do"
                " not mix the outcomes of different runs"
            )
        self.frame = frame.assign(
            correct=correct(*(frame[name].to_numpy(np.float64) for name in rewards))
        )
        self._draws: dict[Key, dict[int, tuple[np.ndarray, np.ndarray]]] = {}
        self._sum_up(int(groups.max(initial=-1)) + 1)

    def _sum_up(self, prompts: int) -> None:
        """Sum every arm's right answers by draw and prompt."""
        tested: dict[int, np.ndarray] = {}
        for (arm, share, seed), rows in self.frame.groupby(_ARM, sort=True):
            pairs = np.sort(rows["pair"].to_numpy())
            if not np.array_equal(tested.setdefault(seed, pairs), pairs):
                raise DataError(
                    f"outcomes of {self.data}: {arm} at share {share:g}, draw {seed}"
                    " was not tested on the same pairs as the other arms; run it again"
                )
            place = rows["prompt"].to_numpy()
            sums = np.bincount(place, rows["correct"], minlength=prompts)
            sizes = np.bincount(place, minlength=prompts).astype(np.float64)
            self._draws.setdefault((arm, share), {})[seed] = sums, sizes

    @property
    def keys(self) -> list[Key]:
        """Every arm with its share, sorted."""
        return sorted(self._draws)

    def shares(self, arm: str) -> list[float]:
        """Return the shares that an arm was measured at, in rising order."""
        return sorted(share for name, share in self._draws if name == arm)

    def draws(self, *keys: Key) -> list[int]:
        """Return the draws that all of these arms were measured on."""
        return sorted(set.intersection(*(set(self._draws[key]) for key in keys)))

    @classmethod
    def of(cls, frame: pd.DataFrame, data: str) -> Outcomes:
        """Return the outcomes in rows of ``frame``, or changed ones."""
        columns = frame[OUTCOMES.names]
        return cls(pa.Table.from_pandas(columns, OUTCOMES, preserve_index=False), data)

    def where(self, rows: NDArray[np.bool_]) -> Outcomes:
        """Return the outcomes of some rows of ``frame``."""
        return self.of(self.frame[rows], self.data)

    def cells(self, weights: Mapping[Key, float]) -> Cells:
        """Return a weighted sum of arms, pair by pair, on the draws they share.

        ``{("ser", 0.15): 1, ("seed", 0.15): -1}`` is a paired difference.

        Raises:
            DataError: If the arms share no draw.
        """
        draws = self.draws(*weights)
        if not draws:
            arms = ", ".join(f"{arm} at {share:g}" for arm, share in weights)
            raise DataError(f"outcomes of {self.data}: no draw in common of {arms}")
        first = self._draws[next(iter(weights))]
        sizes = np.stack([first[draw][1] for draw in draws])
        totals = np.zeros_like(sizes)
        for key, weight in weights.items():
            totals += weight * np.stack([self._draws[key][draw][0] for draw in draws])
        tested = sizes.sum(axis=0) > 0
        return Cells(totals[:, tested], sizes[:, tested])


def by_data(table: pa.Table) -> list[Outcomes]:
    """Return the outcomes of each data set in a table, in order of their names."""
    names = sorted(set(table["data"].to_pylist()))
    return [Outcomes(table, name) for name in names]
