"""How much there is to do: pairs, optimiser steps, bytes on disk."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ser_kedro.planning.shape import ModelShape
from ser_kedro.store.references import TableRef
from ser_kedro.training.params import SftParams, TrainingParams

_BYTES_A_SCORE = 64
# Checkpoints to resume from that a training keeps, and removes when it ends.
_CHECKPOINTS = 2


@dataclass(frozen=True)
class Work:
    """What is known of the data and of earlier runs.

    Attributes:
        pairs: Rows of each table of the split, by name; empty where it is not there.
        table_bytes: Bytes of these tables together.
        sample: Labelled pairs that show how long texts are.
        finished: Finished jobs of this very run in the store, by stage.
        missing: The first stage that is not there; ``None`` if nothing is missing.
        unknown: Why nothing could be looked up, in one line.
    """

    pairs: dict[str, int] = field(default_factory=dict)
    table_bytes: int = 0
    sample: TableRef | None = None
    finished: dict[str, int] = field(default_factory=dict)
    missing: str | None = None
    unknown: str | None = None


@dataclass(frozen=True)
class Disk:
    """Bytes that a run adds to the store.

    Attributes:
        models: Kept models together.
        count: How many these are: SFT's, the seed's and one a loop.
        checkpoints: At the worst moment, of the training that is under way.
        tables: Splits, scores and selections; ``None`` without the data.
    """

    models: int
    count: int
    checkpoints: int
    tables: int | None

    @property
    def total(self) -> int:
        """All that is known."""
        return self.models + self.checkpoints + (self.tables or 0)


def steps(params: TrainingParams, rows: int) -> int:
    """Return the optimiser steps of a training on ``rows`` rows."""
    return math.ceil(math.ceil(rows / params.batch_size) * params.epochs)


def sft_rows(params: SftParams, pairs: int) -> int:
    """Return the rows that SFT makes of its pairs."""
    return 2 * pairs if params.target == "both" else pairs


def checkpoint_bytes(shape: ModelShape, *, bf16: bool) -> int:
    """Return the size of one checkpoint to resume from: trained part and optimiser."""
    return (2 + 12 if bf16 else 4 + 8) * shape.trainable


def disk(
    start: ModelShape,
    reward: ModelShape,
    *,
    tuned: bool,
    heads: bool = False,
    loops: int,
    folds: int = 0,
    bf16: bool,
    work: Work,
) -> Disk:
    """Return the disk that a run needs.

    Args:
        start: The model that SFT trains or passes on; it is stored in both cases.
        reward: The reward model; adapters are merged, so each is stored whole.
        tuned: SFT trains it.
        heads: Of the reward models only heads are trained, in seconds; they share the
            file of their frozen weights.
        loops: Loops at most.
        folds: Each with models of its own.
        bf16: Weights are stored with 2 bytes, not 4 (under DeepSpeed).
        work: What is known of the data.
    """
    width = 2 if bf16 else 4
    models = [start] + [reward] * (1 + loops) * (1 + folds)
    stored = models[:2] if heads else models
    trained = stored[0 if tuned else 1 : 1 if heads else None]
    checkpoints = max((checkpoint_bytes(s, bf16=bf16) for s in trained), default=0)
    return Disk(
        models=sum(width * shape.parameters for shape in stored),
        count=len(models),
        checkpoints=_CHECKPOINTS * checkpoints,
        tables=_tables(work, loops, 1 + folds) if work.pairs else None,
    )


def _tables(work: Work, loops: int, evolutions: int) -> int:
    pool = work.pairs["unlabeled_pairs"]
    test = work.pairs["test_pairs"]
    pairs = sum(rows for name, rows in work.pairs.items() if name.endswith("_pairs"))
    # The selections of all loops together hold each pair of the pool once at most.
    selections = pool * work.table_bytes // max(1, pairs)
    scores = _BYTES_A_SCORE * (evolutions * loops * pool + (1 + loops) * test)
    return work.table_bytes + evolutions * selections + scores
