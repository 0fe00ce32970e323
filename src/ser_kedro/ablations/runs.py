"""Runs of the methods, from the raw pairs on, with one random seed for all of it."""

from __future__ import annotations

import functools
import logging
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel

from ser_kedro.ablations.control_loop import ControlLoop
from ser_kedro.ablations.methods import MethodResult, run_method
from ser_kedro.ablations.outcome_job import (
    COMPARISON,
    EFFICIENCY,
    GatherJob,
    OutcomeJob,
    Study,
)
from ser_kedro.ablations.settings import AblationSettings
from ser_kedro.errors import LaunchError
from ser_kedro.evaluation.history import (
    correct_pairs,
    prompt_groups,
    self_label_accuracy,
)
from ser_kedro.launch.executor import run
from ser_kedro.models.calibration import Calibration
from ser_kedro.models.scoring import score_pairs
from ser_kedro.policy.filled_pool import filled
from ser_kedro.preferences.split_job import SplitJob, SplitOutputs
from ser_kedro.self_evolution.state import COMMITTEES, EvolutionData, LoopRecord
from ser_kedro.statistics.power import before
from ser_kedro.store.references import TableRef
from ser_kedro.training.sft_job import SftJob

logger = logging.getLogger(__name__)

Params = TypeVar("Params", bound=BaseModel)


@dataclass(frozen=True)
class RunConfig:
    """One method with one seed.

    Attributes:
        method: Name of a method or of a variant.
        seed: Random seed of the world, the split and all weights.
        labeled_share: Share of the reward model's pairs that keep their label.
        shown_as: Method and share under which it is reported, where those differ.
    """

    method: str
    seed: int
    labeled_share: float
    shown_as: tuple[str, float] | None = None


@dataclass(frozen=True)
class RunResult:
    """What a run came to.

    Attributes:
        outcomes: Rewards of the test pairs.
        history: One row a loop; loop 0 alone where the method has no loops.
    """

    outcomes: TableRef
    history: list[dict[str, Any]]


def compare_methods(
    settings: AblationSettings,
) -> tuple[TableRef, list[dict[str, Any]]]:
    """Run every method with every seed; return outcomes and history of all of them."""
    settings.check_truth()
    logger.info("ablations: %s", foresee(settings))
    share, names = settings.split.labeled_share, settings.ablations.methods
    configs = [
        RunConfig(method, seed, share)
        for seed in settings.ablations.seeds
        for method in names
    ]
    return _gather(settings, configs, COMPARISON)


def label_efficiency(
    settings: AblationSettings,
) -> tuple[TableRef, list[dict[str, Any]]]:
    """Run seed and SER for each share of labels; where all are, nothing evolves."""
    settings.check_shares()
    # All labels: those of the split's own share, and the pool's given back.
    whole = ("full", settings.split.labeled_share, ("seed", 1.0))
    configs = [
        RunConfig(method, seed, at, shown)
        for seed in settings.ablations.seeds
        for share in settings.ablations.shares
        for method, at, shown in (
            (("seed", share, None), ("ser", share, None)) if share < 1 else (whole,)
        )
    ]
    return _gather(settings, configs, EFFICIENCY)


def _gather(
    settings: AblationSettings, configs: Sequence[RunConfig], study: Study
) -> tuple[TableRef, list[dict[str, Any]]]:
    results = run_all(settings, configs, study)
    job = GatherJob(parts=tuple(result.outcomes for result in results))
    history = [row for result in results for row in result.history]
    return run(job, settings.launcher)["outcomes"], history


def foresee(settings: AblationSettings) -> str:
    """Say how large a difference the methods' test pairs can show, before they run."""
    wanted = settings.ablations
    first = _split(settings, wanted.seeds[0], None)
    return before(
        prompt_groups(first["test_pairs"]),
        seeds=len(wanted.seeds),
        comparisons=max(1, len(wanted.methods) - 1),
        crossed=settings.source.test_path is not None,
        params=settings.evaluation,
    )


def run_all(
    settings: AblationSettings, configs: Sequence[RunConfig], study: Study
) -> list[RunResult]:
    """Run seed by seed, several seeds at once where that is asked for.

    Every heavy step is a job of the store: what was interrupted is resumed.
    """
    groups = [
        [config for config in configs if config.seed == seed]
        for seed in sorted({config.seed for config in configs})
    ]
    workers = min(settings.ablations.processes, len(groups))
    run_group = functools.partial(_run_seed, settings, study)
    if workers <= 1:
        return [result for group in groups for result in run_group(group)]
    # Fresh processes: torch's threads do not outlive a fork.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, _prepare, (workers,))
    try:
        with pool:
            return [result for part in pool.map(run_group, groups) for result in part]
    except BrokenProcessPool:
        raise LaunchError(
            f"ablations: one of {workers} processes was killed, perhaps for lack of"
            " memory; run it again, with fewer at once: --params ablations.processes=1"
        ) from None


def build(
    settings: AblationSettings,
    seed: int,
    share: float | None = None,
    method: str = "seed",
) -> tuple[ControlLoop, SplitOutputs]:
    """Split and fine-tune; return the loop from there, and all tables of the split.

    Args:
        settings: The parameters.
        seed: Of the world, the split and all weights.
        share: Labelled share, in place of the split's own.
        method: The variant whose parameters hold.
    """
    variant = settings.ablations.variant(method)
    tables = _split(settings, seed, share)
    sft = _changed(settings.sft, variant.sft)
    job = SftJob(
        model=settings.model,
        pairs=tables["sft_pairs"],
        pool=None if sft.pool == "none" else tables["unlabeled_pairs"],
        params=sft,
        seed=seed,
    )
    model = run(job, settings.launcher)["model"]
    pool = filled(
        tables["unlabeled_pairs"],
        tables["pool_prompts"],
        model,
        settings.pool,
        seed,
        settings.launcher,
    )
    data = EvolutionData(
        labeled_pairs=tables["labeled_pairs"],
        validation_pairs=tables["validation_pairs"],
        unlabeled_pairs=pool["pool_pairs"],
        sft_model=model,
    )
    loop = ControlLoop(
        data=data,
        params=_changed(settings.evolution, variant.self_evolve),
        reward=_changed(settings.reward, variant.reward),
        seed=seed,
        max_loops=settings.max_loops,
        launcher=settings.launcher,
        audit_labels=tables["audit_labels"],
    )
    return loop, tables


def _split(settings: AblationSettings, seed: int, share: float | None) -> SplitOutputs:
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


def _run_seed(
    settings: AblationSettings, study: Study, configs: Sequence[RunConfig]
) -> list[RunResult]:
    return [_run_one(settings, study, config) for config in configs]


def _run_one(settings: AblationSettings, study: Study, config: RunConfig) -> RunResult:
    variant = settings.ablations.variant(config.method)
    loop, tables = build(settings, config.seed, config.labeled_share, config.method)
    test_pairs = tables["test_pairs"]
    result = run_method(variant.method, loop)
    scores = score_pairs(result.model, test_pairs, loop.reward.scoring, loop.launcher)
    name, share = config.shown_as or (config.method, config.labeled_share)
    job = OutcomeJob(
        scores=scores,
        test_pairs=test_pairs,
        calibration=Calibration.of(result.model),
        data=settings.ablations.data,
        phase=settings.ablations.phase,
        study=study,
        share=share,
        method=name,
        seed=config.seed,
    )
    outcomes = run(job, loop.launcher)["outcomes"]
    accuracy = float(correct_pairs(scores).mean())
    message = "%s with %.0f %% of the labels, seed %d: test accuracy %.1f %%"
    logger.info(message, name, 100 * share, config.seed, 100 * accuracy)
    known = {
        "data": job.data,
        "phase": job.phase,
        "study": study,
        "share": share,
        "method": name,
        "seed": config.seed,
        "human_labels": result.labels,
        "test_accuracy": accuracy,
    }
    return RunResult(
        outcomes, [known | row for row in _loops(loop, result, test_pairs)]
    )


def _loops(
    loop: ControlLoop, result: MethodResult, test_pairs: TableRef
) -> Iterator[dict[str, Any]]:
    """Yield a row for each loop; ``loop_accuracy`` is that of the loop's own model."""
    records: tuple[LoopRecord | None, ...] = (
        result.state.records if result.state else (None,)
    )
    for record in records:
        model = record.model if record else result.model
        taken = bool(record and record.selection and record.selected)
        row = {
            "loop": _loop_number(record, loop.max_loops) if record else 0,
            "status": record.status if record else "-",
            "selected": record.selected if record else 0,
            "outcome": str(record.outcome) if record else "-",
            "kept": model is not None and model.fingerprint == result.model.fingerprint,
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
            scores = score_pairs(model, test_pairs, loop.reward.scoring, loop.launcher)
            row["loop_accuracy"] = float(correct_pairs(scores).mean())
            row["steps"] = model.metrics.get("steps")
            row["validation_accuracy"] = model.metrics.get("validation_accuracy")
        yield row


def _loop_number(record: LoopRecord, loops: int) -> int:
    """Return a number that means the same with every seed, early as it may stop."""
    if record.status in COMMITTEES:
        return loops + 2
    return loops + 1 if record.outcome == "refit" else record.loop


def _changed(params: Params, changes: dict[str, Any]) -> Params:
    """Return parameters with changes, checked as the whole of them."""
    return type(params).model_validate({**params.model_dump(), **changes})
