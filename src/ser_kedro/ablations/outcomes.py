"""The outcomes of all methods, as the statistics read them: right, wrong or tied."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ser_kedro.ablations.outcome_job import OUTCOMES
from ser_kedro.errors import DataError
from ser_kedro.statistics.estimate import correct
from ser_kedro.statistics.intervals import Cells

_METHOD = ["method", "share", "seed"]
# A method at a share of labels.
Key = tuple[str, float]


class Outcomes:
    """The methods of one data set, in one phase."""

    def __init__(self, table: pa.Table, data: str) -> None:
        """Take the rows of a data set.

        Args:
            table: Rows of ``OUTCOMES``.
            data: Name of the data set.

        Raises:
            DataError: If a pair is there twice and differs, or a method lacks some of
                the pairs that another method of the same seed was tested on.
        """
        self.data = data
        own = table.select(OUTCOMES.names).filter(pc.equal(table["data"], data))
        frame = own.to_pandas()
        pairs, groups = (
            pd.factorize(frame[name], sort=True)[0] for name in ("pair_id", "group")
        )
        frame = frame.assign(pair=pairs, prompt=groups)
        # Comparison and label efficiency share some methods, out of one job.
        one = [*_METHOD, "pair"]
        rewards = ["chosen_reward", "rejected_reward"]
        frame = frame.drop_duplicates([*one, *rewards], ignore_index=True)
        if frame.duplicated(one).any():
            raise DataError(
                f"outcomes of {data}: one method has a pair twice, with other rewards;"
                " do not mix the outcomes of different runs"
            )
        self.frame = frame.assign(
            correct=correct(*(frame[name].to_numpy(np.float64) for name in rewards))
        )
        self._seeds: dict[Key, dict[int, tuple[np.ndarray, np.ndarray]]] = {}
        self._sum_up(int(groups.max(initial=-1)) + 1)

    def _sum_up(self, prompts: int) -> None:
        """Sum every method's right answers by seed and prompt."""
        tested: dict[int, np.ndarray] = {}
        for (method, share, seed), rows in self.frame.groupby(_METHOD, sort=True):
            pairs = np.sort(rows["pair"].to_numpy())
            if not np.array_equal(tested.setdefault(seed, pairs), pairs):
                raise DataError(
                    f"outcomes of {self.data}: {method} at share {share:g}, seed {seed}"
                    " was not tested on the same pairs as the others; run it again"
                )
            place = rows["prompt"].to_numpy()
            sums = np.bincount(place, rows["correct"], minlength=prompts)
            sizes = np.bincount(place, minlength=prompts).astype(np.float64)
            self._seeds.setdefault((method, share), {})[seed] = sums, sizes

    @property
    def keys(self) -> list[Key]:
        """Every method with its share, sorted."""
        return sorted(self._seeds)

    def shares(self, method: str) -> list[float]:
        """Return the shares that a method was measured at, in rising order."""
        return sorted(share for name, share in self._seeds if name == method)

    def seeds(self, *keys: Key) -> list[int]:
        """Return the seeds that all of these methods were measured on."""
        return sorted(set.intersection(*(set(self._seeds[key]) for key in keys)))

    @classmethod
    def of(cls, frame: pd.DataFrame, data: str) -> Outcomes:
        """Return the outcomes in rows of ``frame``, or changed ones."""
        columns = frame[OUTCOMES.names]
        return cls(pa.Table.from_pandas(columns, OUTCOMES, preserve_index=False), data)

    def where(self, rows: NDArray[np.bool_]) -> Outcomes:
        """Return the outcomes of some rows of ``frame``."""
        return self.of(self.frame[rows], self.data)

    def cells(self, weights: Mapping[Key, float]) -> Cells:
        """Return a weighted sum of methods, pair by pair, on the seeds they share.

        ``{("ser", 0.15): 1, ("seed", 0.15): -1}`` is a paired difference.

        Raises:
            DataError: If the methods share no seed.
        """
        seeds = self.seeds(*weights)
        if not seeds:
            methods = ", ".join(f"{method} at {share:g}" for method, share in weights)
            raise DataError(f"outcomes of {self.data}: no seed in common of {methods}")
        first = self._seeds[next(iter(weights))]
        sizes = np.stack([first[seed][1] for seed in seeds])
        totals = np.zeros_like(sizes)
        for key, weight in weights.items():
            totals += weight * np.stack([self._seeds[key][seed][0] for seed in seeds])
        tested = sizes.sum(axis=0) > 0
        return Cells(totals[:, tested], sizes[:, tested])


def by_data(table: pa.Table) -> list[Outcomes]:
    """Return the outcomes of each data set in a table, in order of their names."""
    names = sorted(set(table["data"].to_pylist()))
    return [Outcomes(table, name) for name in names]
