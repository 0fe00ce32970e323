"""The pairs of a pool that people should label, by what a reward model says."""

from __future__ import annotations

from ser_kedro.acquisition.params import AcquisitionParams
from ser_kedro.acquisition.request_job import RequestJob, check_voters
from ser_kedro.launch.executor import run
from ser_kedro.launch.params import LauncherParams
from ser_kedro.models.calibration import Calibration
from ser_kedro.models.params import Scoring
from ser_kedro.models.scoring import score_by_members, score_pairs
from ser_kedro.self_evolution.voters import voters_of
from ser_kedro.store.references import ModelRef, TableRef


def label_requests(
    pool: TableRef,
    model: ModelRef,
    params: AcquisitionParams,
    scoring: Scoring,
    seed: int,
    launcher: LauncherParams,
    labelled: tuple[TableRef, ...] = (),
) -> TableRef:
    """Score a pool and choose the pairs to label.

    Args:
        pool: A table of pairs without labels.
        model: A reward model, whose voters judge the pool too, or a committee, whose
            members may disagree.
        params: How to choose.
        scoring: How the model is applied.
        seed: Of the random ones.
        launcher: How jobs run.
        labelled: As of ``RequestJob``.

    Returns:
        A table of ``REQUESTS``.

    Raises:
        ParameterError: If voters are to disagree, and the model has none.
    """
    voters = voters_of(model)
    if model.kind == "committee" and params.by == "disagreement":
        scores = score_by_members(model, pool, scoring, launcher)
        voters = (model,) * len(scores)  # whose calibration all of them share
    else:
        check_voters(params, len(voters))  # before anything is scored
        scores = tuple(score_pairs(each, pool, scoring, launcher) for each in voters)
    job = RequestJob(
        pairs=pool,
        scores=scores,
        calibrations=tuple(map(Calibration.of, voters)),
        labelled=labelled if params.spread == "k_center" else (),
        params=params,
        seed=seed,
    )
    return run(job, launcher)["label_requests"]
