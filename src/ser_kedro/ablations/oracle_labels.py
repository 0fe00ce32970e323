"""Jobs that read what annotators preferred in the pool: for controls alone."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ser_kedro.preferences.keyed import keyed_hash
from ser_kedro.preferences.schema import PAIRS
from ser_kedro.self_evolution.selection import SELECTED, as_selection
from ser_kedro.store.job import Job
from ser_kedro.store.references import SelectionRef, TableRef
from ser_kedro.store.tables import BATCH, read_table, write_table


class LabeledOutputs(TypedDict):
    """A table of labelled pairs."""

    labeled: TableRef


class ChangedSelection(TypedDict):
    """A selection that was changed by what annotators preferred."""

    selection: SelectionRef


class TrueLabelsJob(Job[LabeledOutputs]):
    """Give the pool, or the first rows of it, its human labels back.

    Attributes:
        pairs: ``unlabeled_pairs``.
        audit: ``audit_labels``, of the same pairs in any order.
        limit: Rows at most; ``None``: all. The pool's order is a random one.
    """

    stage: ClassVar[str] = "true_labels"
    libraries: ClassVar[tuple[str, ...]] = ("pyarrow",)

    pairs: TableRef
    audit: TableRef
    limit: int | None = None

    @property
    def title(self) -> str:
        """What it does, for the log."""
        return "Give the pool its human labels back"

    def work(self, workspace: Path) -> LabeledOutputs:
        """Write ``labeled``: the pairs with ``chosen`` and ``rejected``."""
        truth = _truth(self.audit)
        pool = read_table(self.pairs)
        if self.limit is not None:
            pool = pool.slice(0, self.limit)

        def batches() -> Iterator[pa.RecordBatch]:
            for batch in pool.to_batches(BATCH):
                a_is_chosen = pa.array([truth[i] for i in batch["pair_id"].to_pylist()])
                one, two = batch["response_a"], batch["response_b"]
                columns = {name: batch[name] for name in ("pair_id", "group", "prompt")}
                columns["chosen"] = pc.if_else(a_is_chosen, one, two)
                columns["rejected"] = pc.if_else(a_is_chosen, two, one)
                columns["source"] = batch["source"]
                yield pa.RecordBatch.from_pydict(columns, PAIRS)

        return {"labeled": write_table(workspace, "labeled", batches(), PAIRS)}


class SelectionJob(Job[ChangedSelection]):
    """A job that changes a selection by what annotators preferred.

    Attributes:
        selection: A loop's selection.
        audit: ``audit_labels``.
    """

    libraries: ClassVar[tuple[str, ...]] = ("pyarrow",)

    selection: SelectionRef
    audit: TableRef

    def work(self, workspace: Path) -> ChangedSelection:
        """Write ``selection``, as changed."""
        table = read_table(self.selection)
        truth, pairs = _truth(self.audit), table["pair_id"].to_pylist()
        own = zip(pairs, table["a_preferred"].to_pylist(), strict=True)
        right = np.array([truth[pair] == a for pair, a in own], bool)
        changed = self.change(table, right).combine_chunks()
        batches, metrics = changed.to_batches(), self.selection.metrics
        output = write_table(workspace, "selection", batches, changed.schema, metrics)
        return {"selection": as_selection(output, self.selection.status)}

    @abstractmethod
    def change(self, table: pa.Table, right: np.ndarray) -> pa.Table:
        """Return the selection, changed.

        Args:
            table: The selection, ``n`` rows.
            right: Which self-labels annotators agree with, shape ``(n,)``.
        """


class LeakyFilterJob(SelectionJob):
    """Drop the wrong self-labels, as the authors' script did."""

    stage: ClassVar[str] = "leaky_selection"

    @property
    def title(self) -> str:
        """What it does, for the log."""
        return "Drop the wrong self-labels"

    def change(self, table: pa.Table, right: np.ndarray) -> pa.Table:
        """Return the rows whose self-label is right."""
        return table.filter(pa.array(right, pa.bool_()))


class OracleJob(SelectionJob):
    """Replace the labels of a selection by those of the annotators."""

    stage: ClassVar[str] = "oracle_selection"

    @property
    def title(self) -> str:
        """What it does, for the log."""
        return "Correct the wrong self-labels"

    def change(self, table: pa.Table, right: np.ndarray) -> pa.Table:
        """Return the same pairs, truly and hardly labelled."""
        kept = pa.array(right, pa.bool_())
        chosen, rejected = table["chosen"], table["rejected"]
        a_preferred = table["a_preferred"].to_numpy() == right
        columns = {
            **{name: table[name] for name in SELECTED.names},
            "chosen": pc.if_else(kept, chosen, rejected),
            "rejected": pc.if_else(kept, rejected, chosen),
            "a_preferred": pa.array(a_preferred),
        }
        return pa.table(columns, schema=SELECTED)


class RandomLabelsJob(Job[LabeledOutputs]):
    """Toss a coin for the label of each pair.

    Attributes:
        pairs: A labelled table.
        seed: Of the coins.
    """

    stage: ClassVar[str] = "random_labels"
    libraries: ClassVar[tuple[str, ...]] = ("pyarrow",)

    pairs: TableRef
    seed: int

    @property
    def title(self) -> str:
        """What it does, for the log."""
        return "Draw random labels"

    def work(self, workspace: Path) -> LabeledOutputs:
        """Write ``labeled``: the same pairs; which response is preferred is drawn."""
        table = read_table(self.pairs)
        # The coin falls on the text, so the true order says nothing.
        first = pc.less(table["chosen"], table["rejected"]).to_numpy()
        coins = [
            bool(keyed_hash(self.seed, "random_labels", pair) & 1)
            for pair in table["pair_id"].to_pylist()
        ]
        kept = pa.array(first == np.array(coins, bool), pa.bool_())
        chosen, rejected = table["chosen"], table["rejected"]
        columns = {
            **{name: table[name] for name in PAIRS.names},
            "chosen": pc.if_else(kept, chosen, rejected),
            "rejected": pc.if_else(kept, rejected, chosen),
        }
        drawn = pa.table(columns, schema=PAIRS).combine_chunks()
        output = write_table(workspace, "labeled", drawn.to_batches(), PAIRS)
        return {"labeled": output}


def _truth(audit: TableRef) -> dict[str, bool]:
    table = read_table(audit)
    pairs, a_is_chosen = table["pair_id"].to_pylist(), table["a_is_chosen"].to_pylist()
    return dict(zip(pairs, a_is_chosen, strict=True))
