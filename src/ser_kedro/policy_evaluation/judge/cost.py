"""What judging will cost, before it starts."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from ser_kedro.policy_evaluation.judge.params import JudgeParams
from ser_kedro.policy_evaluation.judge.prompts import Message

# English text, and what a chat format adds to each message.
_CHARACTERS_A_TOKEN = 4
_TOKENS_A_MESSAGE = 4
_MILLION = 1_000_000


@dataclass(frozen=True)
class CostEstimate:
    """Calls to make, and their price.

    Attributes:
        calls: Different calls, the answered ones too.
        cached: Those whose answers are on disk.
        prompt_tokens: Of the calls left, estimated from their characters.
        answer_tokens: Of the calls left, at most.
        price: Of the calls left, at most; ``None`` where prices are not known.
    """

    calls: int
    cached: int
    prompt_tokens: int
    answer_tokens: int
    price: float | None

    @property
    def left(self) -> int:
        """Calls that have to be made."""
        return self.calls - self.cached

    def __str__(self) -> str:
        price = "price unknown" if self.price is None else f"at most {self.price:,.2f}"
        return (
            f"{self.left:,} calls ({self.cached:,} of {self.calls:,} answered before),"
            f" about {self.prompt_tokens:,} prompt tokens and at most"
            f" {self.answer_tokens:,} answer tokens, {price}"
        )


def estimate(
    params: JudgeParams, calls: int, left: Iterable[list[Message]]
) -> CostEstimate:
    """Estimate the cost of the calls that are left.

    Args:
        params: Prices and the longest answer.
        calls: All calls, answered or not.
        left: Messages of those that are not.
    """
    sizes = [sum(map(_tokens, messages)) for messages in left]
    prompt, answer = sum(sizes), params.max_tokens * len(sizes)
    price = None
    if params.input_price is not None and params.output_price is not None:
        price = params.input_price * prompt + params.output_price * answer
        price /= _MILLION
    return CostEstimate(calls, calls - len(sizes), prompt, answer, price)


def _tokens(message: Message) -> int:
    return _TOKENS_A_MESSAGE + math.ceil(len(message["content"]) / _CHARACTERS_A_TOKEN)
