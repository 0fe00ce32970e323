"""Draws: the whole road from the raw pairs on, with one seed for all of it."""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel

from ser_kedro.ablations import arms
from ser_kedro.ablations.arms import Arm
from ser_kedro.ablations.control_loop import ControlLoop
from ser_kedro.ablations.outcome_job import OutcomeJob
from ser_kedro.ablations.settings import Settings
from ser_kedro.errors import LaunchError
from ser_kedro.evaluation.history import (
    correct_pairs,
    prompt_groups,
    self_label_accuracy,
)
from ser_kedro.launch.executor import run
from ser_kedro.models.calibration import Calibration
from ser_kedro.preferences.split_job import SplitJob, SplitOutputs
from ser_kedro.self_evolution import voters
from ser_kedro.self_evolution.state import EvolutionData, LoopRecord
from ser_kedro.statistics.power import before
from ser_kedro.store.references import TableRef
from ser_kedro.training.sft import SftJob

logger = logging.getLogger(__name__)

Params = TypeVar("Params", bound=BaseModel)


@dataclass(frozen=True)
class Cell:
    """One arm on one draw.

    Attributes:
        arm: Its name; of an arm or of a variant.
        seed: Of the draw.
        share: Share of the reward model's pairs that keep their label.
        shown_as: Arm and share that it is reported under, where those are others.
    """

    arm: str
    seed: int
    share: float
    shown_as: tuple[str, float] | None = None


@dataclass(frozen=True)
class Result:
    """What came of a cell.

    Attributes:
        outcomes: Rewards of the test pairs.
        history: One row a loop; loop 0 alone where the arm has no loops.
    """

    outcomes: TableRef
    history: list[dict[str, Any]]


def foresee(settings: Settings) -> str:
    """Say how large a difference the arms' test pairs can show, before they run."""
    evidence = settings.evidence
    first = _split(settings, evidence.first_seed, None)
    return before(
        prompt_groups(first["test_pairs"]),
        draws=evidence.draws,
        comparisons=max(1, len(evidence.arms) - 1),
        crossed=settings.source.test_path is not None,
        params=settings.reporting,
    )


def run_cells(settings: Settings, cells: Sequence[Cell]) -> list[Result]:
    """Run cells, draw by draw, several draws at once where that is asked for.

    Every heavy step is a job of the store: what was interrupted goes on where it was.
    """
    groups = [
        [cell for cell in cells if cell.seed == seed]
        for seed in sorted({cell.seed for cell in cells})
    ]
    workers = min(settings.evidence.processes, len(groups))
    if workers <= 1:
        return [result for group in groups for result in _run_draw(settings, group)]
    # Fresh processes: torch's threads do not outlive a fork.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, _prepare, (workers,))
    try:
        with pool:
            parts = pool.map(_run_draw, [settings] * len(groups), groups)
            return [result for part in parts for result in part]
    except BrokenProcessPool:
        raise LaunchError(
            f"evidence: one of {workers} processes was killed, perhaps for want of"
            " memory; run it again, with fewer at once: --params evidence.processes=1"
        ) from None


def build(
    settings: Settings, seed: int, share: float | None = None, arm: str = "seed"
) -> tuple[ControlLoop, SplitOutputs]:
    """Split and fine-tune; return the loop from there, and all tables of the split.

    Args:
        settings: The parameters.
        seed: Of the world, the split and all weights.
        share: Labelled share, in the place of the split's own.
        arm: The variant whose parameters count.
    """
    variant = settings.evidence.variant(arm)
    tables = _split(settings, seed, share)
    sft = _changed(settings.sft, variant.sft)
    job = SftJob(
        model=settings.model,
        pairs=tables["sft_pairs"],
        pool=None if sft.pool == "none" else tables["unlabeled_pairs"],
        params=sft,
        seed=seed,
    )
    data = EvolutionData(
        labeled_pairs=tables["labeled_pairs"],
        validation_pairs=tables["validation_pairs"],
        unlabeled_pairs=tables["unlabeled_pairs"],
        sft_model=run(job, settings.launcher)["model"],
    )
    loop = ControlLoop(
        data=data,
        params=_changed(settings.evolution, variant.self_evolve),
        reward=_changed(settings.reward, variant.reward),
        seed=seed,
        max_loops=settings.loops,
        launcher=settings.launcher,
        audit_labels=tables["audit_labels"],
    )
    return loop, tables


def _split(settings: Settings, seed: int, share: float | None) -> SplitOutputs:
    source, split = settings.source, settings.split
    if (world := source.known_world) is not None:
        drawn = world.model_copy(update={"seed": seed})
        source = source.model_copy(update={"world": drawn})
    if share is not None:
        split = _changed(split, {"labeled_share": share})
    job = SplitJob(source=source, params=split, seed=seed)
    return run(job, settings.launcher)


def _prepare(workers: int) -> None:
    import torch

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))


def _run_draw(settings: Settings, cells: Sequence[Cell]) -> list[Result]:
    return [_run_cell(settings, cell) for cell in cells]


def _run_cell(settings: Settings, cell: Cell) -> Result:
    variant = settings.evidence.variant(cell.arm)
    loop, tables = build(settings, cell.seed, cell.share, cell.arm)
    test_pairs = tables["test_pairs"]
    arm = arms.run_arm(variant.arm, loop)
    scores = voters.score(arm.model, test_pairs, loop.reward, loop.launcher)
    name, share = cell.shown_as or (cell.arm, cell.share)
    job = OutcomeJob(
        scores=scores,
        test_pairs=test_pairs,
        calibration=Calibration.load(arm.model.location),
        data=settings.evidence.data,
        share=share,
        arm=name,
        draw=cell.seed,
    )
    outcomes = run(job, loop.launcher)["outcomes"]
    accuracy = float(correct_pairs(scores).mean())
    where = {"data": job.data, "share": share, "arm": name, "seed": cell.seed}
    logger.info("%s: test accuracy %.1f %%", where, 100 * accuracy)
    known = where | {"human_labels": arm.labels, "test_accuracy": accuracy}
    return Result(outcomes, [known | row for row in _loops(loop, arm, test_pairs)])


def _loops(
    loop: ControlLoop, arm: Arm, test_pairs: TableRef
) -> Iterator[dict[str, Any]]:
    """Yield a row for each loop; ``loop_accuracy`` is that of the loop's own model."""
    records: tuple[LoopRecord | None, ...] = arm.state.records if arm.state else (None,)
    for record in records:
        model = record.model if record else arm.model
        taken = bool(record and record.selection and record.selected)
        row = {
            "loop": _loop_number(record, loop.max_loops) if record else 0,
            "status": record.status if record else "-",
            "selected": record.selected if record else 0,
            "outcome": str(record.outcome) if record else "-",
            "kept": model is not None and model.fingerprint == arm.model.fingerprint,
            "self_label_accuracy": None,
            "loop_accuracy": None,
            "steps": None,
            "validation_accuracy": None,
        }
        if taken and record and record.selection:
            row["self_label_accuracy"] = self_label_accuracy(
                record.selection, loop.audit_labels
            )
        if model is not None:
            scores = voters.score(model, test_pairs, loop.reward, loop.launcher)
            row["loop_accuracy"] = float(correct_pairs(scores).mean())
            row["steps"] = model.metrics.get("steps")
            row["validation_accuracy"] = model.metrics.get("validation_accuracy")
        yield row


def _loop_number(record: LoopRecord, loops: int) -> int:
    """Return a number that means the same in all draws, however early they stopped."""
    return loops + 1 if record.outcome == "refit" else record.loop


def _changed(params: Params, changes: dict[str, Any]) -> Params:
    """Return parameters with changes, checked as the whole of them."""
    return type(params).model_validate({**params.model_dump(), **changes})
