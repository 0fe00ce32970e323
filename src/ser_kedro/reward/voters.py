"""One model or several voters, trained whole or as a head: made and used alike."""

from __future__ import annotations

from ser_kedro.launch.job import Job
from ser_kedro.launch.params import LauncherParams
from ser_kedro.launch.reference import Reference
from ser_kedro.launch.run import run
from ser_kedro.reward.calibrate import Calibration
from ser_kedro.reward.features import BackboneJob, FeaturesJob
from ser_kedro.reward.head import ScoreHeadJob, TrainHeadJob
from ser_kedro.reward.params import RewardParams
from ser_kedro.reward.score import ScoreJob
from ser_kedro.reward.train import TrainRewardJob

# Apart from the seeds of loops, which count from the run's own.
_VOTER_SEED = 1000


def score(
    model: Reference,
    pairs: Reference,
    params: RewardParams,
    launcher: LauncherParams,
    rows: Reference | None = None,
) -> Reference:
    """Score a table of pairs, or the ``rows`` of it."""
    job: Job
    if (backbone := backbone_of(model)) is not None:
        features = _features(backbone, pairs, params, launcher)
        job = ScoreHeadJob(model=model, features=features, pairs=pairs, rows=rows)
    else:
        job = ScoreJob(
            model=model,
            pairs=pairs,
            rows=rows,
            **params.scoring.model_dump(),
        )
    return run(job, launcher)["scores"]


def voters_of(model: Reference) -> tuple[Reference, ...]:
    """Return the models that label together: this one first, often alone."""
    others = model.metrics.get("voters", ())
    return (model, *map(Reference.model_validate, others))


def backbone_of(model: Reference) -> Reference | None:
    """Return the frozen model that a trained head stands on, if it is one."""
    known = model.metrics.get("backbone")
    return Reference.model_validate(known) if known else None


def train(
    *,
    start: Reference,
    pairs: tuple[Reference, ...],
    texts: tuple[Reference, ...],
    validation: Reference,
    params: RewardParams,
    seed: int,
    launcher: LauncherParams,
) -> Reference:
    """Train one model, or several voters: the first, which knows the others."""
    starts = voters_of(start)
    first, *others = (
        _train_one(
            TrainRewardJob(
                start=starts[voter] if voter < len(starts) else start,
                pairs=pairs,
                validation=validation,
                params=without_voters(params),
                seed=seed + _VOTER_SEED * voter,
            ),
            texts,
            launcher,
        )
        for voter in range(params.voters)
    )
    if not others:
        return first
    voters = [other.model_dump(mode="json") for other in others]
    return first.model_copy(update={"metrics": {**first.metrics, "voters": voters}})


def _train_one(
    job: TrainRewardJob, texts: tuple[Reference, ...], launcher: LauncherParams
) -> Reference:
    if job.params.trainable != "head":
        return run(job, launcher)["model"]
    start = BackboneJob(start=job.start)
    backbone = backbone_of(job.start) or run(start, launcher)["model"]
    features = tuple(
        _features(backbone, table, job.params, launcher)
        for table in (*texts, job.validation)
    )
    head = TrainHeadJob(backbone=backbone, features=features, **dict(job))
    return run(head, launcher)["model"]


def _features(
    backbone: Reference,
    pairs: Reference,
    params: RewardParams,
    launcher: LauncherParams,
) -> Reference:
    job = FeaturesJob(
        model=backbone,
        pairs=pairs,
        **params.scoring.model_dump(),
    )
    return run(job, launcher)["features"]


def without_voters(params: RewardParams) -> RewardParams:
    """Return the parameters of a single voter, a model like any other."""
    return params.model_copy(update={"voters": 1})


def is_alone(model: Reference) -> bool:
    """Say whether a model labels by itself."""
    return len(voters_of(model)) == 1


def calibration_of(model: Reference) -> Calibration:
    """Return what was fitted on a model's validation pairs."""
    return Calibration.load(model.location)
