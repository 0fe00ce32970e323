"""Score pairs with any reward model, whole or a head on a frozen one."""

from __future__ import annotations

from ser_kedro.launch.executor import run
from ser_kedro.launch.params import LauncherParams
from ser_kedro.models.committee import load_views
from ser_kedro.models.features_job import FeaturesJob
from ser_kedro.models.head_job import ScoreHeadJob
from ser_kedro.models.params import Scoring
from ser_kedro.models.score_job import ScoreJob
from ser_kedro.store.references import AnyTable, ModelRef, TableRef


def score_pairs(
    model: ModelRef,
    pairs: AnyTable,
    scoring: Scoring,
    launcher: LauncherParams,
    rows: TableRef | None = None,
    texts: TableRef | None = None,
    member: int | None = None,
) -> TableRef:
    """Return the scores of a table of pairs, or of the ``rows`` of it.

    Args:
        model: A reward model.
        pairs: A table of pairs.
        scoring: How the model is applied.
        launcher: How jobs run.
        rows: A table whose column ``row`` names the rows to score; ``None``: all.
        texts: A table that holds all of ``pairs``, of which a frozen model's features
            are made; ``pairs`` itself if not given.
        member: As of ``ScoreHeadJob``.
    """
    if model.backbone is None:
        how = scoring.whole.model_dump()
        job = ScoreJob(model=model, pairs=pairs, rows=rows, **how)
        return run(job, launcher)["scores"]
    if model.kind == "committee":
        scoring = scoring.model_copy(update={"views": load_views(model.location)})
    features = compute_features(model.backbone, texts or pairs, scoring, launcher)
    head = ScoreHeadJob(
        model=model, features=features, pairs=pairs, rows=rows, member=member
    )
    return run(head, launcher)["scores"]


def score_by_members(
    model: ModelRef, pairs: AnyTable, scoring: Scoring, launcher: LauncherParams
) -> tuple[TableRef, ...]:
    """Return the scores of a table of pairs by each member of a committee.

    Args:
        model: The committee.
        pairs: A table of pairs.
        scoring: How its backbone is applied.
        launcher: How jobs run.
    """
    return tuple(
        score_pairs(model, pairs, scoring, launcher, member=number)
        for number in range(len(load_views(model.location)))
    )


def compute_features(
    backbone: ModelRef, pairs: AnyTable, scoring: Scoring, launcher: LauncherParams
) -> TableRef:
    """Return what heads and committees read for the pairs of a table.

    Args:
        backbone: From ``BackboneJob``.
        pairs: A table of pairs.
        scoring: How the backbone is applied.
        launcher: How jobs run.
    """
    job = FeaturesJob(model=backbone, pairs=pairs, **scoring.model_dump())
    return run(job, launcher)["features"]
