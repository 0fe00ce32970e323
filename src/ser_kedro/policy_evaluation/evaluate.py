"""What training has made of the policy: its answers against those of its start."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from pydantic import SecretStr

from ser_kedro.errors import JudgeError
from ser_kedro.evaluation.params import EvaluationParams
from ser_kedro.policy_evaluation.judge.key import find_key
from ser_kedro.policy_evaluation.judge.params import JudgeParams
from ser_kedro.policy_evaluation.judge.prompts import Comparison
from ser_kedro.preferences.demo_world.world import WorldParams, gold_rewards
from ser_kedro.preferences.schema import Message
from ser_kedro.statistics.estimate import Floats, mean_by_group
from ser_kedro.store.references import TableRef
from ser_kedro.store.tables import read_table

logger = logging.getLogger(__name__)

NO_JUDGE = (
    "policy evaluation: no judge is set, so nothing says which answers are better; set"
    " policy_evaluation.judge.model, base_url, and the key as a credential or in the"
    " variable OPENAI_API_KEY"
)


def evaluate(
    policy: TableRef,
    sft: TableRef,
    world: WorldParams | None,
    judge_params: JudgeParams | None,
    params: EvaluationParams,
    credentials: Mapping[str, Any],
) -> dict[str, Any]:
    """Return ``policy_evaluation``: by the gold reward, by a judge, whichever there is.

    Args:
        policy: Answers of the trained policy.
        sft: Answers of the model that it started from, to the same prompts.
        world: The demo world, where the gold reward is known.
        judge_params: Who judges; ``None`` for nobody.
        params: Of the intervals.
        credentials: Entry ``judge`` of Kedro's credentials, or nothing.

    Raises:
        JudgeError: If the judge has no key, or cannot be asked.
    """
    figures = {**compare(policy, sft, world, params), "judge": None}
    if judge_params is not None:
        key = find_key(judge_params, credentials)
        figures["judge"] = ask_judge(policy, sft, judge_params, params, key)
    if (line := headline(figures)) is not None:
        logger.info("policy evaluation: %s", line)
    else:
        logger.warning(NO_JUDGE)
    return figures


def headline(figures: dict[str, Any]) -> str | None:
    """Return the outcome in a line; ``None`` where nothing said which is better."""
    parts = []
    if (gold := figures["gold"]) is not None:
        gain = gold["difference"]
        parts.append(
            f"gold reward of the SFT model {gold['sft']['value']:.2f}, of the policy"
            f" {gold['policy']['value']:.2f}, {gain['value']:+.2f}"
            f" [{gain['low']:+.2f}, {gain['high']:+.2f}]"
        )
    for mode in ("absolute", "pairwise"):
        if (tally := (figures["judge"] or {}).get(mode)) is not None:
            parts.append(
                f"judge ({mode}): {tally['wins']} won, {tally['ties']} tied,"
                f" {tally['losses']} lost, {tally['unparsed']} not read"
            )
    return "; ".join(parts) + f" ({figures['prompts']} prompts)" if parts else None


def compare(
    policy: TableRef,
    sft: TableRef,
    world: WorldParams | None,
    params: EvaluationParams,
) -> dict[str, Any]:
    """Compare two tables of answers to the same prompts, without a judge.

    Args:
        policy: Answers of the trained policy.
        sft: Answers of the model that it started from.
        world: The demo world, where the gold reward is known.
        params: Of the intervals.

    Returns:
        Number of prompts, figures of both policies' answers, and ``gold``: mean gold
        rewards, their difference and the shares of prompts won, tied and lost by the
        policy, each with an interval; ``None`` without a world.
    """
    tables = {"sft": read_table(sft), "policy": read_table(policy)}
    figures: dict[str, Any] = {
        "prompts": tables["policy"].num_rows,
        "answers": {name: _figures(table) for name, table in tables.items()},
        "gold": None,
    }
    if world is not None:
        gold = {name: gold_of_answers(world, table) for name, table in tables.items()}
        groups = np.array(tables["policy"]["group"].to_pylist())
        gained = gold["policy"] - gold["sft"]
        values = {
            **gold,
            "difference": gained,
            "win": gained > 0,
            "tie": gained == 0,
            "loss": gained < 0,
        }
        figures["gold"] = {
            name: asdict(mean_by_group(np.asarray(v, np.float64), groups, params))
            for name, v in values.items()
        }
    return figures


def gold_of_answers(world: WorldParams, answers: Any) -> Floats:
    """Return the gold rewards of a table of answers, shape ``(n,)``."""
    prompts = [
        [Message(**turn) for turn in prompt] for prompt in answers["prompt"].to_pylist()
    ]
    return gold_rewards(world, prompts, answers["response"].to_pylist())


def ask_judge(
    policy: TableRef,
    sft: TableRef,
    judge_params: JudgeParams,
    params: EvaluationParams,
    key: SecretStr,
) -> dict[str, Any]:
    """Let a judge compare two tables of answers to the same prompts.

    Returns:
        Model, mode, wins, ties and losses of the policy with intervals, cost as it was
        estimated before the start, and what could not be used.

    Raises:
        JudgeError: If the ``openai`` package is missing, or the judge cannot be asked.
    """
    try:
        from ser_kedro.policy_evaluation.judge.judge import judge
    except ModuleNotFoundError as error:
        if error.name != "openai":
            raise
        raise JudgeError(
            "judge: the openai package is missing; pip install 'ser-kedro[judge]'"
        ) from error

    ours, others = read_table(policy).to_pylist(), read_table(sft).to_pylist()
    comparisons = [
        Comparison(our["group"], _text(our["prompt"]), our["response"], o["response"])
        for our, o in zip(ours, others, strict=True)
    ]
    found = judge(comparisons, judge_params, params, key)
    return {
        "model": judge_params.model,
        "mode": judge_params.mode,
        **{mode: asdict(tally) for mode, tally in found.tallies.items()},
        "cost": asdict(found.cost),
        "unanswered": found.unanswered,
        "unparsed": found.unparsed,
    }


def _figures(table: Any) -> dict[str, float]:
    empty = [not text for text in table["response"].to_pylist()]
    return {
        "tokens": float(np.mean(table["tokens"].to_numpy())),
        "ended": float(np.mean(table["ended"].to_pylist())),
        "empty": float(np.mean(empty)),
        "kl": float(np.mean(table["kl"].to_numpy())),
    }


def _text(prompt: list[dict[str, str]]) -> str:
    if len(prompt) == 1:
        return prompt[0]["content"]
    return "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in prompt)
