"""Every human label trains, and every one judges: cross-fitting.

The labels are cut into folds by prompt group. Beside the evolution on all labels one
runs for each fold on the labels of the others, and what its models say of the fold is
what a model says of pairs that it has not seen.
"""

from __future__ import annotations

from collections.abc import Sequence

from ser_kedro.launch.executor import run
from ser_kedro.launch.params import LauncherParams
from ser_kedro.self_evolution.crossfit_job import CrossfitJob, FoldsJob
from ser_kedro.store.references import ModelRef, TableRef
from ser_kedro.training.params import RewardParams


def crossfits(validation: TableRef) -> bool:
    """Say whether no label is held out, so that folds judge.

    Args:
        validation: The labels that are held out.
    """
    return validation.rows == 0


def cut_into_folds(
    pairs: TableRef, count: int, seed: int, launcher: LauncherParams
) -> list[tuple[TableRef, TableRef]]:
    """Return for each fold the labels of the others, and its own.

    Args:
        pairs: As of ``FoldsJob``, like the next two.
        count: As there.
        seed: As there.
        launcher: How jobs run.
    """
    tables = run(FoldsJob(pairs=pairs, count=count, seed=seed), launcher)
    return [
        (tables[f"rest_{fold}"], tables[f"held_{fold}"])
        for fold in range(len(tables) // 2)
    ]


def judged_unseen(
    model: ModelRef,
    folds: Sequence[ModelRef],
    params: RewardParams,
    launcher: LauncherParams,
) -> ModelRef:
    """Return a model with what models of the folds say of the human labels.

    Args:
        model: As of ``CrossfitJob``, like the next one.
        folds: As there.
        params: Whether a temperature is fitted.
        launcher: How jobs run.
    """
    job = CrossfitJob(
        model=model, folds=tuple(folds), temperature=params.fit_temperature
    )
    return run(job, launcher)["model"]
