"""Judge comparisons: what to ask, asking it, and what came of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from ser_kedro.evaluation.params import EvaluationParams
from ser_kedro.policy_evaluation.judge.cache import Answer, AnswerCache, key_of
from ser_kedro.policy_evaluation.judge.client import connected
from ser_kedro.policy_evaluation.judge.cost import CostEstimate, estimate
from ser_kedro.policy_evaluation.judge.params import JudgeParams
from ser_kedro.policy_evaluation.judge.parse import Choice, parse_score, parse_verdict
from ser_kedro.policy_evaluation.judge.prompts import (
    Comparison,
    Message,
    pair_messages,
    score_messages,
)
from ser_kedro.policy_evaluation.judge.tally import (
    Tally,
    bias_of,
    by_choices,
    by_scores,
    tally,
)
from ser_kedro.store.layout import project_root

logger = logging.getLogger(__name__)

Ask = Callable[[list[Message]], Answer | None]


@dataclass(frozen=True)
class Call:
    """One question to the judge.

    Attributes:
        messages: What it is asked.
        parse: Reads its answer; ``None`` where that cannot be read.
    """

    messages: list[Message]
    parse: Callable[[str], int | Choice | None]


@dataclass(frozen=True)
class Judgement:
    """What the judge decided.

    Attributes:
        tallies: By mode: ``absolute``, ``pairwise``.
        scores: Scores of our answers and of the others, where they were asked for and
            could be read; in the order of the comparisons.
        cost: What was estimated before the start.
        unanswered: Calls whose reply held no answer.
        unparsed: Answers, of different calls, that could not be read.
    """

    tallies: dict[str, Tally]
    scores: list[tuple[int | None, int | None]]
    cost: CostEstimate
    unanswered: int
    unparsed: int


def calls_of(comparisons: Sequence[Comparison], params: JudgeParams) -> dict[str, Call]:
    """Return all different calls by their key; one answer may serve several."""
    calls = [
        call
        for pair in comparisons
        for call in (
            *(score_calls(pair) if params.mode != "pairwise" else ()),
            *(pair_calls(pair) if params.mode != "absolute" else ()),
        )
    ]
    return {_key(params, call): call for call in calls}


def score_calls(pair: Comparison) -> tuple[Call, Call]:
    """Return the calls that score our answer, and the other one."""
    ours, other = (
        Call(score_messages(pair.prompt, answer), parse_score)
        for answer in (pair.ours, pair.other)
    )
    return ours, other


def pair_calls(pair: Comparison) -> tuple[Call, Call]:
    """Return the calls that show our answer first, and second."""
    given = Call(pair_messages(pair, "given"), parse_verdict)
    return given, Call(pair_messages(pair, "swapped"), parse_verdict)


def plan_cost(comparisons: Sequence[Comparison], params: JudgeParams) -> CostEstimate:
    """Say what judging would cost, answers on disk left out; asks nothing."""
    calls = calls_of(comparisons, params)
    return _cost(params, calls, _cache(params))


def judge(
    comparisons: Sequence[Comparison],
    params: JudgeParams,
    evaluation: EvaluationParams,
    key: SecretStr,
) -> Judgement:
    """Ask the judge about each comparison, and count.

    Each answer is on disk as soon as it is there: after an interruption the same call
    asks only for what is missing.

    Args:
        comparisons: At least one.
        params: Which model, and how.
        evaluation: Of the intervals.
        key: For the endpoint.

    Raises:
        JudgeError: If the server refuses, or stops answering.
    """
    cache, calls = _cache(params), calls_of(comparisons, params)
    cost = _cost(params, calls, cache)
    logger.info("judge %s: %s", params.model, cost)
    left = {name: call for name, call in calls.items() if cache.get(name) is None}
    if left:
        with connected(params, key) as client:
            _ask_all(left, client.ask, cache, params.concurrency)

    found = {name: _read(call, cache.get(name)) for name, call in calls.items()}

    def read(pair_of_calls: tuple[Call, Call]) -> tuple[Any, Any]:
        first, second = (found[_key(params, call)] for call in pair_of_calls)
        return first, second

    tallies: dict[str, Tally] = {}
    scores: list[tuple[int | None, int | None]] = []
    groups = [pair.group for pair in comparisons]
    if params.mode != "pairwise":
        scores = [read(score_calls(pair)) for pair in comparisons]
        verdicts = [by_scores(*pair) for pair in scores]
        tallies["absolute"] = tally(verdicts, groups, evaluation)
    if params.mode != "absolute":
        choices = [read(pair_calls(pair)) for pair in comparisons]
        verdicts = [by_choices(*pair) for pair in choices]
        biases = [bias_of(*pair) for pair in choices]
        tallies["pairwise"] = tally(verdicts, groups, evaluation, biases)
    unanswered = sum(cache.get(name) is None for name in calls)
    return Judgement(
        tallies=tallies,
        scores=scores,
        cost=cost,
        unanswered=unanswered,
        unparsed=sum(value is None for value in found.values()) - unanswered,
    )


def _read(call: Call, answer: Answer | None) -> int | Choice | None:
    return None if answer is None else call.parse(answer.text)


def _key(params: JudgeParams, call: Call) -> str:
    return key_of(params.model, call.messages, params.sampling)


def _cache(params: JudgeParams) -> AnswerCache:
    return AnswerCache(project_root() / params.cache)


def _cost(
    params: JudgeParams, calls: dict[str, Call], cache: AnswerCache
) -> CostEstimate:
    left = [call.messages for name, call in calls.items() if cache.get(name) is None]
    return estimate(params, len(calls), left)


def _ask_all(
    calls: dict[str, Call], ask: Ask, cache: AnswerCache, concurrency: int
) -> None:
    def one(name: str) -> None:
        # Kept by the thread that asked: an answer on its way when another call fails,
        # or Ctrl-C comes, is kept too.
        if (answer := ask(calls[name].messages)) is not None:
            cache.put(name, answer)

    with ThreadPoolExecutor(concurrency) as pool:
        waiting = [pool.submit(one, name) for name in calls]
        try:
            for done in as_completed(waiting):
                done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
