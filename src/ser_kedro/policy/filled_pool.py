"""The pool that self-evolution learns from, whichever way it was given."""

from __future__ import annotations

from typing import TypedDict

from ser_kedro.errors import ModelError
from ser_kedro.launch.executor import run
from ser_kedro.launch.params import LauncherParams
from ser_kedro.models.params import ModelParams
from ser_kedro.policy.pool_job import AnswerPoolJob
from ser_kedro.policy.pool_params import PoolParams
from ser_kedro.store.references import NOTHING, ModelRef, Nothing, TableRef


class FilledPool(TypedDict):
    """Pairs without labels, and what was sampled for them, if anything was."""

    pool_pairs: TableRef
    pool_answers: TableRef | Nothing


def filled(
    pairs: TableRef,
    prompts: TableRef,
    sft_model: ModelRef,
    params: PoolParams,
    seed: int,
    launcher: LauncherParams,
) -> FilledPool:
    """Return the pool's pairs; where it has prompts alone, of answers to these.

    Args:
        pairs: Pairs that were given, none if prompts were.
        prompts: Prompts that were given without answers, none if pairs were.
        sft_model: What answers, unless ``params`` names another model.
        params: How to sample.
        seed: Draws the answers.
        launcher: How jobs run.

    Raises:
        ModelError: If there is nothing that could answer.
    """
    if not prompts.rows:
        return {"pool_pairs": pairs, "pool_answers": NOTHING}
    given = params.model
    if given is None and sft_model.kind != "language_model":
        raise ModelError(
            f"pool: {sft_model.base_model} is no language model and cannot answer the"
            " prompts of pool_path; give pool.model=NAME, or a pool with answers"
        )
    model = sft_model if given is None else ModelParams(name=given)
    job = AnswerPoolJob(model=model, prompts=prompts, params=params, seed=seed)
    outputs = run(job, launcher)
    return {"pool_pairs": outputs["pairs"], "pool_answers": outputs["answers"]}
