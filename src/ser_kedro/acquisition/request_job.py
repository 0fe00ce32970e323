"""The job that chooses the pairs to label from the scores of the pool."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypedDict

import numpy as np
import pyarrow as pa

from ser_kedro.acquisition.params import AcquisitionParams
from ser_kedro.acquisition.ranking import (
    Ranking,
    Values,
    disagreement_scores,
    margin_scores,
    no_scores,
    rank,
)
from ser_kedro.acquisition.spread import embed
from ser_kedro.errors import ParameterError
from ser_kedro.models.calibration import Calibration
from ser_kedro.preferences.keyed import shuffled
from ser_kedro.preferences.schema import UNLABELED
from ser_kedro.store.job import Job
from ser_kedro.store.references import TableRef
from ser_kedro.store.tables import Rows, read_table, reorder, write_table

if TYPE_CHECKING:
    from scipy.sparse import csr_array

# The mean probability that response_a is the better one, what the pair was chosen by,
# whether it was drawn at random instead, and its place, from 1.
REQUESTS = pa.schema(
    [
        *UNLABELED,
        pa.field("p_a", pa.float64()),
        pa.field("score", pa.float64()),
        pa.field("random", pa.bool_()),
        pa.field("rank", pa.int64()),
    ]
)

_LABELLED = ["prompt", "chosen", "rejected"]
_SCORES = {
    "margin": margin_scores,
    "disagreement": disagreement_scores,
    "random": no_scores,
}


class RequestOutputs(TypedDict):
    """A table of ``REQUESTS``."""

    label_requests: TableRef


class RequestJob(Job[RequestOutputs]):
    """Choose the pairs of a pool that people should label.

    Attributes:
        pairs: A table of pairs without labels.
        scores: Rewards of the same rows of it, a table of ``SCORES`` for each voter.
        calibrations: Of each voter.
        labelled: Tables of pairs that have a label; where texts are to differ, they
            are to differ from these too.
        params: How to choose.
        seed: Of the random ones.
    """

    stage: ClassVar[str] = "label_requests"
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "pyarrow", "scikit-learn", "scipy")

    pairs: TableRef
    scores: tuple[TableRef, ...]
    calibrations: tuple[Calibration, ...]
    labelled: tuple[TableRef, ...] = ()
    params: AcquisitionParams
    seed: int

    @property
    def title(self) -> str:
        """What it does, for the log."""
        return (
            f"Choose {self.params.count:,} of {self.pairs.rows:,} pairs to be labelled"
        )

    def work(self, workspace: Path) -> RequestOutputs:
        """Write ``label_requests``, in the order in which they are to be labelled."""
        check_voters(self.params, len(self.scores))
        tables = [read_table(reference) for reference in self.scores]
        voters = zip(tables, self.calibrations, strict=True)
        probabilities = np.stack([_pair_probabilities(*voter) for voter in voters])
        scores = _SCORES[self.params.by](probabilities)
        pairs, rows = read_table(self.pairs), tables[0]["row"].to_numpy()
        spread = self.params.spread == "k_center"
        known = [
            _joined(**row)
            for table in self.labelled
            for row in read_table(table).select(_LABELLED).to_pylist()
        ]
        ranking = rank(
            scores,
            self._groups(pairs, rows),
            shuffled(_texts(pairs, rows, "pair_id"), seed=self.seed, table="requests"),
            count=self.params.count,
            random_share=self.params.share,
            embed=partial(_embed, known, pairs, rows) if spread else None,
            known=len(known),
        )
        requests = _requests(pairs, rows, ranking, probabilities.mean(0), scores)
        metrics = {"random": int(ranking.random.sum())}
        table = write_table(workspace, "label_requests", requests, REQUESTS, metrics)
        return {"label_requests": table}

    def _groups(self, pairs: pa.Table, rows: np.ndarray) -> np.ndarray:
        if not self.params.one_per_prompt:
            return np.arange(len(rows))  # each its own
        return np.unique(_texts(pairs, rows, "group"), return_inverse=True)[1]


def check_voters(params: AcquisitionParams, voters: int) -> None:
    """Check that there are enough voters to disagree.

    Raises:
        ParameterError: If there are not.
    """
    if params.by == "disagreement" and voters < 2:
        raise ParameterError(
            "acquisition.by=disagreement: the reward model is alone, and nobody can"
            " disagree with it; train with reward.voters=3, or choose margin or random"
            " (members of a committee disagree where it is kept)"
        )


def _pair_probabilities(scores: pa.Table, calibration: Calibration) -> Values:
    one, two = (scores[name].to_numpy() for name in ("reward_a", "reward_b"))
    # The offset of a reward cancels in the difference of two.
    difference = one.astype(np.float64) - two
    return Calibration(0.0, calibration.temperature).probabilities(difference)


def _texts(pairs: pa.Table, rows: np.ndarray, name: str) -> list[str]:
    batches = reorder(pairs.select([name]), rows)
    return [value for batch in batches for value in batch[name].to_pylist()]


def _embed(
    known: list[str], pairs: pa.Table, rows: np.ndarray, numbers: np.ndarray
) -> csr_array:
    columns = pairs.select(["prompt", "response_a", "response_b"])
    taken = Rows(columns).take(rows[numbers]).to_pylist()
    return embed([*known, *(_joined(**row) for row in taken)])


def _joined(prompt: list[dict[str, str]], **responses: str) -> str:
    # In which order the responses stand makes no difference to the n-grams.
    return "\n".join([*(turn["content"] for turn in prompt), *responses.values()])


def _requests(
    pairs: pa.Table, rows: np.ndarray, ranking: Ranking, p_a: Values, scores: Values
) -> Iterator[pa.RecordBatch]:
    taken = Rows(pairs.select(UNLABELED.names)).take(rows[ranking.rows])
    columns = {
        **{name: taken[name] for name in UNLABELED.names},
        "p_a": p_a[ranking.rows],
        "score": scores[ranking.rows],
        "random": ranking.random,
        "rank": np.arange(1, len(ranking.rows) + 1),
    }
    yield pa.RecordBatch.from_pydict(columns, REQUESTS)
