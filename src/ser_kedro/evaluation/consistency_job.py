"""Score pairs in several wordings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, TypedDict

import numpy as np
import pyarrow as pa
from pydantic import Field

from ser_kedro.models.scorer_job import ScorerJob
from ser_kedro.store.references import TableRef
from ser_kedro.store.tables import Rows, read_table, write_table

AS_IT_IS = "as it is"
# Other wordings of the last user turn, which ask for the same.
PARAPHRASES = {
    "paraphrase: please": "Please answer the following.\n\n{}",
    "paraphrase: thanks": "{}\n\nThank you for your answer.",
}
TRAILING_SPACE = "trailing white space"
SWAPPED = "order of the pair"

CONSISTENCY = pa.schema(
    [
        ("variant", pa.string()),
        ("pair_id", pa.string()),
        ("reward_a", pa.float32()),
        ("reward_b", pa.float32()),
    ]
)


class ConsistencyOutputs(TypedDict):
    """A table of ``CONSISTENCY``."""

    rewards: TableRef


class ConsistencyJob(ScorerJob[ConsistencyOutputs]):
    """Rewards of some labelled pairs in several wordings.

    Attributes:
        pairs: Labelled pairs.
        count: Pairs to take, evenly spread over the table.
    """

    stage: ClassVar[str] = "consistency"

    pairs: TableRef
    count: int = Field(ge=1)

    @property
    def title(self) -> str:
        """What it does, for the log."""
        return f"Score {self.count:,} pairs in other wordings"

    def work(self, workspace: Path) -> ConsistencyOutputs:
        """Write ``rewards``, where ``a`` is the preferred response in every variant."""
        from ser_kedro.models.load_scorer import load_scorer

        table = read_table(self.pairs)
        count = min(self.count, table.num_rows)
        rows = np.linspace(0, table.num_rows - 1, count).round().astype(np.int64)
        taken = Rows(table).take(rows).to_pydict()
        scorer = load_scorer(self.model.location, self)

        def batches() -> Iterator[pa.RecordBatch]:
            for name, prompts, chosen, rejected in variants(
                taken["prompt"], taken["chosen"], taken["rejected"]
            ):
                rewards = scorer.rewards(
                    scorer.encoder.pairs(prompts, chosen, rejected)
                )
                if name == SWAPPED:
                    rewards = rewards[:, ::-1]
                yield pa.RecordBatch.from_arrays(
                    [
                        pa.array([name] * count),
                        pa.array(taken["pair_id"]),
                        *(pa.array(side.copy(), pa.float32()) for side in rewards.T),
                    ],
                    schema=CONSISTENCY,
                )

        return {"rewards": write_table(workspace, "rewards", batches(), CONSISTENCY)}


def variants(
    prompts: list[Any], chosen: list[str], rejected: list[str]
) -> Iterator[tuple[str, list[Any], list[str], list[str]]]:
    """Yield the pairs as they are, and then in every other wording."""
    yield AS_IT_IS, prompts, chosen, rejected
    for name, frame in PARAPHRASES.items():
        yield name, [_reworded(p, frame) for p in prompts], chosen, rejected
    one, two = ([f"{text} \n" for text in side] for side in (chosen, rejected))
    yield TRAILING_SPACE, [_reworded(p, "{} \n") for p in prompts], one, two
    yield SWAPPED, prompts, rejected, chosen


def _reworded(prompt: list[dict[str, str]], frame: str) -> list[dict[str, str]]:
    last = prompt[-1]
    return [*prompt[:-1], {**last, "content": frame.format(last["content"])}]
