"""Control arms: what the road's jobs give when they may read the truth.

None of these is the method. They bound it: ``full`` from above by all human labels,
``leaky`` by what the authors' deleted filter did.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from ser_kedro.evolution.params import EvolutionParams
from ser_kedro.evolution.state import EvolutionState, begin
from ser_kedro.launch.job import Job, Output
from ser_kedro.launch.params import INLINE, LauncherParams
from ser_kedro.launch.reference import Reference
from ser_kedro.launch.run import run
from ser_kedro.launch.table import BATCH, read_table, write_table
from ser_kedro.preferences.schema import LABELED
from ser_kedro.reward import steps
from ser_kedro.reward.params import RewardParams


class TrueLabelsJob(Job):
    """Give the pool its human labels back.

    Attributes:
        pairs: ``unlabeled_pairs``.
        audit: ``audit_labels``, row by row of the same pairs.
    """

    stage: ClassVar[str] = "true_labels"
    libraries: ClassVar[tuple[str, ...]] = ("pyarrow",)

    pairs: Reference
    audit: Reference

    def work(self, workspace: Path) -> dict[str, Output]:
        """Write ``labeled``: the pairs with ``chosen`` and ``rejected``."""
        truth = dict(_truth(self.audit))

        def batches() -> Iterator[pa.RecordBatch]:
            for batch in read_table(self.pairs).to_batches(BATCH):
                a_is_chosen = pa.array([truth[i] for i in batch["pair_id"].to_pylist()])
                one, two = batch["response_a"], batch["response_b"]
                columns = {name: batch[name] for name in ("pair_id", "group", "prompt")}
                columns["chosen"] = pc.if_else(a_is_chosen, one, two)
                columns["rejected"] = pc.if_else(a_is_chosen, two, one)
                columns["source"] = batch["source"]
                yield pa.RecordBatch.from_pydict(columns, LABELED)

        return {"labeled": write_table(workspace, "labeled", batches(), LABELED)}


class LeakyFilterJob(Job):
    """Drop the self-labels that people disagree with, as the authors' script did.

    Attributes:
        selection: A loop's selection.
        audit: ``audit_labels``.
    """

    stage: ClassVar[str] = "leaky_selection"
    libraries: ClassVar[tuple[str, ...]] = ("pyarrow",)

    selection: Reference
    audit: Reference

    def work(self, workspace: Path) -> dict[str, Output]:
        """Write ``selection`` without its wrong self-labels."""
        truth = dict(_truth(self.audit))
        table = read_table(self.selection)
        right = [
            truth[pair] == preferred
            for pair, preferred in zip(
                table["pair_id"].to_pylist(),
                table["a_preferred"].to_pylist(),
                strict=True,
            )
        ]
        kept = table.filter(pa.array(right, pa.bool_())).combine_chunks()
        output = write_table(
            workspace,
            "selection",
            kept.to_batches(),
            table.schema,
            self.selection.metrics,
        )
        return {"selection": output}


@dataclass(frozen=True)
class Road:
    """What all arms of one draw share.

    Attributes:
        tables: Outputs of ``SplitJob`` by name.
        sft_model: The model that reward models start from.
        seed_model: Loop 0.
        reward: How reward models are trained.
        evolution: How the loop decides.
        loops: Loops at most.
        seed: Of all training.
        launcher: How jobs run.
    """

    tables: dict[str, Reference]
    sft_model: Reference
    seed_model: Reference
    reward: RewardParams
    evolution: EvolutionParams
    loops: int
    seed: int
    launcher: LauncherParams = INLINE


def evolve(
    road: Road, filtered: Callable[[Reference], Reference] = lambda kept: kept
) -> EvolutionState:
    """Run the loop outside of Kedro, on the same jobs and thus the same store.

    Args:
        road: What to run it on.
        filtered: What to do with a selection before training on it.

    Returns:
        The state after the last loop.
    """
    tables = road.tables
    pool = tables["unlabeled_pairs"]
    state = begin(road.seed_model, pool.rows or 0)
    model = road.seed_model
    for _ in range(road.loops):
        if state.stopped:
            break
        scores = steps.self_label(
            model=model,
            unlabeled_pairs=pool,
            state=state,
            params=road.reward,
            launcher=road.launcher,
        )
        selection, remaining = steps.select_confident(
            scores=scores,
            model=model,
            unlabeled_pairs=pool,
            state=state,
            params=road.evolution,
            launcher=road.launcher,
        )
        selection = filtered(selection)
        if not steps.has_stopped(selection):
            model = steps.retrain(
                model=model,
                seed_model=road.seed_model,
                sft_model=road.sft_model,
                selection=selection,
                labeled_pairs=tables["labeled_pairs"],
                validation_pairs=tables["validation_pairs"],
                state=state,
                params=road.evolution,
                reward=road.reward,
                seed=road.seed,
                launcher=road.launcher,
            )
        state = steps.judge_progress(
            model=model,
            scores=scores,
            selection=selection,
            remaining=remaining,
            state=state,
            params=road.evolution,
            last_loop=road.loops,
        )
    return state


def leaky(road: Road) -> Reference:
    """Return the model kept when the truth removes wrong self-labels."""

    def drop_wrong(selection: Reference) -> Reference:
        job = LeakyFilterJob(selection=selection, audit=road.tables["audit_labels"])
        return run(job, road.launcher)["selection"]

    return evolve(road, drop_wrong).best


def full(road: Road) -> Reference:
    """Return the model trained on all human labels of the RM part."""
    truth = TrueLabelsJob(
        pairs=road.tables["unlabeled_pairs"], audit=road.tables["audit_labels"]
    )
    pool = run(truth, road.launcher)["labeled"]
    return steps.train_seed(
        sft_model=road.sft_model,
        labeled_pairs=(road.tables["labeled_pairs"], pool),
        validation_pairs=road.tables["validation_pairs"],
        params=road.reward,
        seed=road.seed,
        launcher=road.launcher,
    )


def _truth(audit: Reference) -> Iterator[tuple[str, bool]]:
    for batch in read_table(audit).to_batches(BATCH):
        columns = batch.to_pydict()
        yield from zip(columns["pair_id"], columns["a_is_chosen"], strict=True)
