"""The demo world: preference pairs from a small model whose gold reward is known.

A response is made of phrases, each with a hidden quality weight, and of traits that do
not count: polite words and fillers. Labels are drawn from a Bradley-Terry model on the
gold reward (Bradley and Terry, 1952), so some of them are wrong, as human labels are.
Nothing here is language that anybody would want to read; it is a place where everything
that the method claims can be checked against the truth.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ser_kedro.preferences.demo_world import words
from ser_kedro.preferences.demo_world.prompts import (
    MOST_PROMPTS,
    TOPICS,
    draw_prompts,
    topic_of,
)
from ser_kedro.preferences.schema import Message, Pair

Part = Literal["train", "test"]

_BLOCK = 1024
_TRIED = 4096  # responses that tell the spread of their quality
_STREAMS = {"hidden": 0, "train": 1, "test": 2, "skill": 3}
_NOT_IN_PHRASE = re.compile(r"[^a-z\s]+")

Size = Annotated[int, Field(ge=1, le=MOST_PROMPTS)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=2, le=40)]


class WorldParams(BaseModel):
    """What the world is like. Two equal objects describe the same pairs.

    Attributes:
        pairs: Number of training pairs.
        test_pairs: Number of test pairs.
        seed: Seed of the hidden weights, the pairs and the labels.
        phrases: Number of distinct phrases, each with a hidden weight. More phrases
            need more labels to be learned.
        phrases_per_response: Smallest and largest number of phrases in a response.
        zipf_exponent: A phrase of rank ``k`` is drawn in proportion to
            ``k ** -zipf_exponent``; 0 makes all phrases equally frequent.
        word_share: Share of the variance of the hidden weights that comes from the
            words of a phrase; the rest is the phrase's own.
        skill: How much writers differ. Take two writers whose skill differs by a
            standard deviation, and two phrases whose quality does: the better writer's
            odds of the better phrase are ``exp(skill)`` times the other's. So the
            phrases of a response are good or bad together; at 0 they are so
            independently.
        topic_bonus: What a phrase gains when it suits the topic of the prompt, in
            standard deviations of the weights.
        label_temperature: A label prefers the first response with the probability
            ``sigmoid((gold_1 - gold_2) / label_temperature)``.
        politeness: Share of the responses with polite words around the answer.
        politeness_bias: Correlation of the tendency to politeness with quality.
        fillers: Mean number of filler words in a response.
        length_bias: Correlation of the tendency to fillers with quality.
        repeated_prompts: Share of the pairs that ask what another pair asks too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pairs: Size = 4000
    test_pairs: Size = 4000
    seed: int = Field(default=0, ge=0, lt=2**32)
    phrases: int = Field(default=80, ge=20, le=2000)
    phrases_per_response: tuple[Count, Count] = (3, 7)
    zipf_exponent: float = Field(default=0.7, ge=0, le=3)
    word_share: Share = 0.3
    skill: float = Field(default=0.0, ge=0, le=5)
    topic_bonus: float = Field(default=0.3, ge=0, le=5)
    label_temperature: float = Field(default=0.15, gt=0, le=100)
    politeness: Share = 0.4
    politeness_bias: Share = 0.3
    fillers: float = Field(default=2.0, ge=0, le=20)
    length_bias: Share = 0.3
    repeated_prompts: float = Field(default=0.05, ge=0, le=0.9)

    @model_validator(mode="after")
    def _check_counts(self) -> Self:
        low, high = self.phrases_per_response
        if low > high or 2 * high > self.phrases:
            raise ValueError(
                f"phrases_per_response={low, high}: must rise, and the larger be at"
                f" most half of phrases={self.phrases}"
            )
        return self


@dataclass(frozen=True)
class _Hidden:
    """What no model is told: phrases, their weights, topics and frequencies.

    ``lure`` is what a standard deviation of a writer's skill adds to the logarithm of a
    phrase's odds.
    """

    phrases: tuple[str, ...]
    index: dict[tuple[str, ...], int]
    weights: NDArray[np.float64]
    lure: NDArray[np.float64]
    topics: NDArray[np.int64]
    frequency: NDArray[np.float64]
    bonus: float


def _stream(params: WorldParams, name: str) -> np.random.Generator:
    return np.random.default_rng([params.seed, _STREAMS[name]])


@lru_cache(maxsize=8)
def _hidden(params: WorldParams) -> _Hidden:
    rng = _stream(params, "hidden")
    kinds = (words.VERBS, words.ADJECTIVES, words.NOUNS)
    effects = [dict(zip(k, rng.normal(size=len(k)), strict=True)) for k in kinds]
    index: dict[tuple[str, ...], int] = {}
    by_words = []
    while len(index) < params.phrases:
        kept = (0, 2) if rng.random() < 0.5 else (0, 1, 2)
        phrase = tuple(str(rng.choice(kinds[k])) for k in kept)
        if phrase not in index:
            index[phrase] = len(index)
            total = sum(effects[k][w] for k, w in zip(kept, phrase, strict=True))
            by_words.append(total / np.sqrt(len(kept)))
    own = rng.normal(size=params.phrases)
    share = params.word_share
    weights = np.sqrt(share) * np.array(by_words) + np.sqrt(1 - share) * own
    ranks = np.arange(1, params.phrases + 1, dtype=np.float64)
    frequency: NDArray[np.float64] = ranks**-params.zipf_exponent
    # Rewards of mean 0 and variance 1, so that every seed is about equally hard.
    present = _presence(frequency, sum(params.phrases_per_response) / 2)
    weights -= present @ weights / present.sum()
    weights /= np.sqrt((present * (1 - present)) @ weights**2)
    lure = params.skill * weights / np.sqrt(present @ weights**2 / present.sum())
    if params.skill:
        # Phrases that come together sum up to more, by what only a trial can tell. It
        # has draws of its own, so that all else is as at skill 0.
        trial = _stream(params, "skill")
        odds = np.log(frequency) + trial.normal(size=(_TRIED, 1)) * lure
        drawn, used = _draw_phrases(trial, params, odds)
        weights /= (weights[drawn] * used).sum(axis=1).std()
    return _Hidden(
        phrases=tuple(" ".join(phrase) for phrase in index),
        index=index,
        weights=weights,
        lure=lure,
        topics=rng.integers(0, len(TOPICS), params.phrases),
        frequency=frequency,
        bonus=params.topic_bonus * float(np.sqrt(present @ weights**2 / present.sum())),
    )


def _presence(frequency: NDArray[np.float64], count: float) -> NDArray[np.float64]:
    # How likely each phrase is among ``count`` drawn without replacement, in the usual
    # approximation 1 - exp(-c f), with c such that the sum is right.
    low, high = 0.0, 1e9
    for _ in range(100):
        middle = (low + high) / 2
        enough = (1 - np.exp(-middle * frequency)).sum() > count
        low, high = (low, middle) if enough else (middle, high)
    return np.asarray(1 - np.exp(-high * frequency))


def draw_pairs(params: WorldParams, part: Part) -> Iterator[Pair]:
    """Draw the pairs of one part of the world, the same ones in every call.

    The parts share the hidden weights but neither a prompt nor a random stream.

    Args:
        params: What the world is like.
        part: ``train`` (``params.pairs`` pairs) or ``test`` (``params.test_pairs``).

    Yields:
        Pairs, their ``source`` being ``world``.
    """
    size = params.pairs if part == "train" else params.test_pairs
    rng = _stream(params, part)
    asked = draw_prompts(rng, size, params.repeated_prompts, test=part == "test")
    for start in range(0, size, _BLOCK):
        prompts = asked[start : start + _BLOCK]
        topics = np.array([topic_of(prompt) for prompt in prompts])
        first, gold_first = _draw_responses(rng, params, topics)
        second, gold_second = _draw_responses(rng, params, topics)
        gap = (gold_first - gold_second) / params.label_temperature
        wins = rng.random(len(prompts)) < 0.5 * (1 + np.tanh(gap / 2))
        for row, prompt in enumerate(prompts):
            one, other = first[row], second[row]
            if one == other:
                # So rare that it need not be natural: the same answer, backwards.
                other = " ".join(reversed(other.split(" ")))
            chosen, rejected = (one, other) if wins[row] else (other, one)
            yield Pair((Message("user", prompt),), chosen, rejected, "world")


def gold_reward(params: WorldParams, prompt: Sequence[Message], response: str) -> float:
    """Return the true quality of any text as a response in this world.

    It is the sum of the hidden weights of the distinct phrases found in the text, each
    with a bonus if it suits the topic of the prompt. The responses of the world have a
    mean near 0 and a standard deviation near 1. A repeated phrase counts once, and all
    other words count nothing.

    Args:
        params: What the world is like.
        prompt: The dialogue up to the response.
        response: Any text, from this world or not.
    """
    hidden = _hidden(params)
    asked = [turn.content for turn in prompt if turn.role == "user"]
    found = _find_phrases(hidden, response)
    suits = hidden.topics[found] == (topic_of(asked[-1]) if asked else -1)
    return float(hidden.weights[found].sum() + hidden.bonus * suits.sum())


def gold_rewards(
    params: WorldParams,
    prompts: Sequence[Sequence[Message]],
    responses: Sequence[str],
) -> NDArray[np.float64]:
    """Return the gold reward of many responses, each to its own prompt.

    Args:
        params: What the world is like.
        prompts: The dialogues, of length ``n``.
        responses: The responses, of length ``n``.

    Returns:
        Gold rewards, of shape ``(n,)``.
    """
    both = zip(prompts, responses, strict=True)
    return np.array([gold_reward(params, prompt, text) for prompt, text in both])


def _draw_responses(
    rng: np.random.Generator, params: WorldParams, topics: NDArray[np.int64]
) -> tuple[list[str], NDArray[np.float64]]:
    hidden, rows = _hidden(params), len(topics)
    suits = hidden.topics == topics[:, None]
    odds = np.log(hidden.frequency) + np.log(2) * suits
    if params.skill:
        odds = odds + rng.normal(size=(rows, 1)) * hidden.lure
    drawn, used = _draw_phrases(rng, params, odds)
    suits = np.take_along_axis(suits, drawn, axis=1)
    gold = ((hidden.weights[drawn] + hidden.bonus * suits) * used).sum(axis=1)
    polite = _tendency(rng, gold, params.politeness_bias)
    polite_rows = polite > np.quantile(polite, 1 - params.politeness)
    spread = _tendency(rng, gold, params.length_bias)
    fillers = np.rint(params.fillers * (1 + 0.6 * spread)).clip(0).astype(np.int64)
    texts = [
        _render(rng, hidden, drawn[row, used[row]], fillers[row], polite_rows[row])
        for row in range(rows)
    ]
    return texts, gold


def _draw_phrases(
    rng: np.random.Generator, params: WorldParams, odds: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Draw the phrases of responses, none twice in one, in a random order.

    Args:
        rng: What draws.
        params: How many phrases a response has.
        odds: Logarithm of how often each is drawn, shape ``(rows, phrases)``.

    Returns:
        Phrases of shape ``(rows, most)``, and which of them are used: the first ones.
    """
    low, most = params.phrases_per_response
    counts = rng.integers(low, most + 1, len(odds))
    # The largest of log-frequency plus Gumbel noise: a draw without replacement.
    keys = odds + rng.gumbel(size=odds.shape)
    drawn = rng.permuted(np.argpartition(-keys, most, axis=1)[:, :most], axis=1)
    return drawn, np.arange(most) < counts[:, None]


def _tendency(
    rng: np.random.Generator, gold: NDArray[np.float64], correlation: float
) -> NDArray[np.float64]:
    quality = (gold - gold.mean()) / (gold.std() + 1e-9)
    noise = rng.normal(size=len(gold))
    rest = float(np.sqrt(1 - correlation**2))
    return np.asarray(correlation * quality + rest * noise)


def _render(
    rng: np.random.Generator,
    hidden: _Hidden,
    drawn: NDArray[np.int64],
    fillers: int,
    polite: bool,
) -> str:
    clauses = [hidden.phrases[phrase] for phrase in drawn]
    which = rng.integers(0, len(words.FILLERS), fillers)
    for filler, place in zip(
        which, rng.integers(0, len(clauses), fillers), strict=True
    ):
        clauses[place] = f"{words.FILLERS[filler]} {clauses[place]}"
    text = ", ".join(clauses) + "."
    if polite:
        opener, closer = rng.integers(0, [len(words.OPENERS), len(words.CLOSERS)])
        text = f"{words.OPENERS[opener]} {text} {words.CLOSERS[closer]}"
    return text


def _find_phrases(hidden: _Hidden, text: str) -> list[int]:
    # Punctuation ends a phrase; inside, the longest phrase from the left wins.
    found = set()
    for clause in _NOT_IN_PHRASE.split(text.lower()):
        tokens = clause.split()
        place = 0
        while place < len(tokens):
            for length in (3, 2):
                phrase = tuple(tokens[place : place + length])
                if phrase in hidden.index:
                    found.add(hidden.index[phrase])
                    place += len(phrase) - 1
                    break
            place += 1
    return sorted(found)
