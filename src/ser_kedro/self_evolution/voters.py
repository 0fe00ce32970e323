"""One model or several voters, trained whole or as a head: made and used alike."""

from __future__ import annotations

from ser_kedro.launch.executor import run
from ser_kedro.launch.params import LauncherParams
from ser_kedro.models.calibration import Calibration
from ser_kedro.models.features import BackboneJob, FeaturesJob
from ser_kedro.models.score import ScoreJob, ScoreOutputs
from ser_kedro.store.job import Job
from ser_kedro.store.references import AnyTable, ModelRef, TableRef
from ser_kedro.training.head import ScoreHeadJob, TrainHeadJob
from ser_kedro.training.params import RewardParams
from ser_kedro.training.reward import TrainRewardJob

# Apart from the seeds of loops, which count from the run's own.
_VOTER_SEED = 1000


def score(
    model: ModelRef,
    pairs: AnyTable,
    params: RewardParams,
    launcher: LauncherParams,
    rows: TableRef | None = None,
) -> TableRef:
    """Score a table of pairs, or the ``rows`` of it."""
    job: Job[ScoreOutputs]
    if model.backbone is not None:
        features = _features(model.backbone, pairs, params, launcher)
        job = ScoreHeadJob(model=model, features=features, pairs=pairs, rows=rows)
    else:
        job = ScoreJob(
            model=model,
            pairs=pairs,
            rows=rows,
            **params.scoring.model_dump(),
        )
    return run(job, launcher)["scores"]


def voters_of(model: ModelRef) -> tuple[ModelRef, ...]:
    """Return the models that label together: this one first, often alone."""
    return (model, *model.voters)


def train(
    *,
    start: ModelRef,
    pairs: tuple[AnyTable, ...],
    validation: TableRef,
    params: RewardParams,
    seed: int,
    launcher: LauncherParams,
    texts: tuple[AnyTable, ...] | None = None,
) -> ModelRef:
    """Train one model, or several voters: the first, which knows the others.

    Args:
        start: A language model, an encoder or a reward model to go on from.
        pairs: Labelled tables to learn from.
        validation: Labelled pairs that no training reads.
        params: How to train, and how many voters.
        seed: Of the first voter; the others have their own.
        launcher: How jobs run.
        texts: Tables that hold all of ``pairs``, of which a head's features are made;
            ``pairs`` themselves if not given.
    """
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
            texts or pairs,
            launcher,
        )
        for voter in range(params.voters)
    )
    return first.model_copy(update={"voters": tuple(others)})


def _train_one(
    job: TrainRewardJob, texts: tuple[AnyTable, ...], launcher: LauncherParams
) -> ModelRef:
    if job.params.trainable != "head":
        return run(job, launcher)["model"]
    start = BackboneJob(start=job.start)
    backbone = job.start.backbone or run(start, launcher)["model"]
    features = tuple(
        _features(backbone, table, job.params, launcher)
        for table in dict.fromkeys((*texts, job.validation))
    )
    head = TrainHeadJob(backbone=backbone, features=features, **dict(job))
    return run(head, launcher)["model"]


def _features(
    backbone: ModelRef,
    pairs: AnyTable,
    params: RewardParams,
    launcher: LauncherParams,
) -> TableRef:
    job = FeaturesJob(
        model=backbone,
        pairs=pairs,
        **params.scoring.model_dump(),
    )
    return run(job, launcher)["features"]


def without_voters(params: RewardParams) -> RewardParams:
    """Return the parameters of a single voter, a model like any other."""
    return params.model_copy(update={"voters": 1})


def is_alone(model: ModelRef) -> bool:
    """Say whether a model labels by itself."""
    return len(voters_of(model)) == 1


def calibration_of(model: ModelRef) -> Calibration:
    """Return what was fitted on a model's validation pairs."""
    return Calibration.load(model.location)
