"""How long a run will take on this machine, by a trial of each stage."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from ser_kedro.models.encode import Encoder
from ser_kedro.models.params import ModelParams
from ser_kedro.models.precision import uses_bf16
from ser_kedro.models.source import load_tokenizer
from ser_kedro.models.speed_trial import Use, seconds_a_token
from ser_kedro.planning.work import Work, sft_rows
from ser_kedro.policy.ppo_params import PpoParams
from ser_kedro.store.references import TableRef
from ser_kedro.store.tables import read_table
from ser_kedro.training.params import RewardParams, SftParams

# Pairs that are encoded to learn how long they are.
_SAMPLE = 64
# How far a trial of some seconds may be from what a stage takes, either way.
_ERROR = 0.3


@dataclass(frozen=True)
class StageTime:
    """How long a stage takes.

    Attributes:
        name: The stage.
        low: Seconds at least: where loops stop early and select little.
        high: Seconds at most.
        precision: ``fp32`` or ``bf16``.
        speed: Tokens a second, of one that is trained on or scored; by PPO, written.
    """

    name: str
    low: float
    high: float
    precision: str
    speed: float


@dataclass(frozen=True)
class Lengths:
    """Mean tokens of the data.

    Attributes:
        row: Of a prompt with one response.
        pair: Of a prompt with both.
    """

    row: float
    pair: float

    @property
    def response(self) -> float:
        """Of a response."""
        return self.pair - self.row

    @property
    def prompt(self) -> float:
        """Of a prompt."""
        return self.row - self.response


@dataclass(frozen=True)
class Times:
    """How long a run takes.

    Attributes:
        stages: One by one, up to the evaluation.
        policy: Training a policy with the result; ``None`` where there is none.
    """

    stages: tuple[StageTime, ...]
    policy: StageTime | None = None

    @property
    def low(self) -> float:
        """Seconds up to the evaluation at least, with the trial's error."""
        return (1 - _ERROR) * sum(stage.low for stage in self.stages)

    @property
    def high(self) -> float:
        """Seconds up to the evaluation at most."""
        return (1 + _ERROR) * sum(stage.high for stage in self.stages)


@dataclass(frozen=True)
class _Rate:
    seconds: float
    precision: str

    def stage(self, name: str, low: float, high: float | None = None) -> StageTime:
        """Return a stage of so many tokens."""
        most = low if high is None else high
        return StageTime(
            name,
            low * self.seconds,
            most * self.seconds,
            self.precision,
            1 / self.seconds,
        )


def measure(
    config: Any,
    model: ModelParams,
    sft: SftParams | None,
    reward: RewardParams,
    ppo: PpoParams | None,
    *,
    loops: int,
    patience: int,
    folds: int = 0,
    views: bool = False,
    work: Work,
) -> Times:
    """Try each stage for some seconds and work out what the run takes.

    Args:
        config: Of the model.
        model: Which model, for its tokenizer.
        sft: Settings of SFT; ``None`` if the model is passed on.
        reward: Settings of the reward model.
        ppo: Settings of the policy; ``None`` if the model cannot be one.
        loops: Loops at most.
        patience: Loops without gain that end the run.
        folds: Of the human labels, each with an evolution of its own; 0: none.
        views: A committee reads every text, of the frozen start model.
        work: What is known of the data, which must be split.
    """
    assert work.sample is not None
    lengths = sample_lengths(model, work.sample, reward.max_length)
    pairs = work.pairs
    scoring = _rate(config, reward, Use("labelling", reward.max_length))
    policy = None
    if ppo is not None and pairs.get("ppo_prompts", 0) > ppo.eval_prompts:
        policy = _policy(config, ppo, scoring, lengths, pairs["ppo_prompts"])
    stages: list[StageTime] = []
    if sft is not None:
        use = Use("sft", sft.max_length, sft.lora, sft.gradient_checkpointing)
        tokens = sft_rows(sft, pairs["sft_pairs"]) * lengths.row * sft.epochs
        stages.append(_rate(config, sft, use).stage("sft", tokens))
    made = _Loops(config, reward, scoring, lengths.pair, pairs, folds, views)
    if reward.trainable == "head":
        stages += made.heads()
    else:
        stages += made.trainings(loops, patience)
    return Times(tuple(stages), policy)


@dataclass(frozen=True)
class _Loops:
    """What decides how long the loops take; a pair has ``pair`` tokens."""

    config: Any
    reward: RewardParams
    scoring: _Rate
    pair: float
    pairs: dict[str, int]
    folds: int
    views: bool

    def heads(self) -> list[StageTime]:
        """Return the stages of a frozen model: each pair is read once."""
        # Each answer of the pool is read once more, beside one to another prompt.
        answers = 2 * self.pairs["unlabeled_pairs"]
        more = answers if self.reward.pretrain == "answers" else 0
        return [self._reading("features", more)]

    def trainings(self, loops: int, patience: int) -> list[StageTime]:
        """Return the stages of trainings, of each fold and of all labels."""
        reward, pair = self.reward, self.pair
        length = reward.max_length
        use = Use("reward", length, reward.lora, reward.gradient_checkpointing)
        training = _rate(self.config, reward, use)
        human = self.pairs["labeled_pairs"]
        pool, test = self.pairs["unlabeled_pairs"], self.pairs["test_pairs"] * pair
        # Each fold's evolution lacks the labels of one fold.
        labeled = max(1, self.folds) * human * reward.epochs * pair
        copies = 1 + self.folds
        scored, learned = copies * pool * pair, copies * pool * reward.epochs * pair
        least, voters = min(loops, patience), reward.voters
        before = []
        if reward.pretrain != "none":
            answers = 2 * pool * reward.pretrain_epochs * pair
            # All trainings share the one on answers; its control is of their own pairs.
            own = reward.pretrain == "steps"
            low, high = (copies, copies * (1 + loops)) if own else (1, 1)
            before.append(training.stage("pretraining", low * answers, high * answers))
        return [
            *([self._reading("views")] if self.views else []),
            *before,
            training.stage("seed model", voters * labeled),
            self.scoring.stage("labelling", voters * scored, voters * loops * scored),
            training.stage(
                "loops' training",
                voters * least * labeled,
                voters * loops * (labeled + learned),
            ),
            self.scoring.stage("evaluation", (1 + least) * test, (1 + loops) * test),
        ]

    def _reading(self, name: str, more: int = 0) -> StageTime:
        unread = ("sft_pairs", "ppo_prompts")
        read = (rows for part, rows in self.pairs.items() if part not in unread)
        pairs = sum(read, more)
        # Each in a pass of its own, which is slower than passes of several.
        use = Use("scoring", self.reward.max_length)
        precision = _rate(self.config, self.reward, use).precision
        half = precision == "bf16"
        seconds = seconds_a_token(self.config, replace(use, rows=1), bf16=half)
        return _Rate(seconds, precision).stage(name, pairs * self.pair)


def _policy(
    config: Any, ppo: PpoParams, scoring: _Rate, lengths: Lengths, prompts: int
) -> StageTime:
    """Return the time of PPO, by what it writes, reads and learns from.

    At least answers are as long as the data's, at most as long as they may be.
    """
    longest = ppo.max_prompt_length + ppo.max_new_tokens
    learning = Use("sft", longest, ppo.lora, ppo.gradient_checkpointing)
    rows = min(ppo.rollout_batch_size or ppo.batch_size, ppo.batch_size)
    writing = _rate(config, ppo, Use("generation", longest, rows=rows))
    learns = _rate(config, ppo, learning)
    steps = ppo.steps or math.ceil(
        ppo.epochs * (prompts - ppo.eval_prompts) / ppo.batch_size
    )
    evaluations = 1 + math.ceil(steps / ppo.eval_steps)
    answers = steps * ppo.batch_size + evaluations * ppo.eval_prompts

    def seconds(response: float) -> float:
        row = min(lengths.prompt, ppo.max_prompt_length) + response
        # The policy, its reference and the reward model read each answer.
        read = answers * 3 * row * scoring.seconds
        learned = steps * ppo.batch_size * ppo.ppo_epochs * row * learns.seconds
        return answers * response * writing.seconds + read + learned

    return StageTime(
        "policy (PPO)",
        seconds(min(lengths.response, ppo.max_new_tokens)),
        seconds(ppo.max_new_tokens),
        learns.precision,
        1 / writing.seconds,
    )


def sample_lengths(model: ModelParams, pairs: TableRef, max_length: int) -> Lengths:
    """Return the mean tokens of the first pairs of a table.

    Args:
        model: Whose tokenizer.
        pairs: Labelled pairs; a model from scratch learns its vocabulary of them.
        max_length: Tokens of a row, at most.
    """
    encoder = Encoder(load_tokenizer(model, pairs), max_length)
    table = read_table(pairs).select(["prompt", "chosen", "rejected"])
    rows = table.slice(0, _SAMPLE).to_pydict()
    found = encoder.pairs(*rows.values())
    prompts = [len(pair.prompt) for pair in found]
    answers = [len(pair.a) + len(pair.b) for pair in found]
    count = max(1, len(found))
    return Lengths(
        row=(sum(prompts) + sum(answers) / 2) / count,
        pair=(sum(prompts) + sum(answers)) / count,
    )


def _rate(config: Any, params: SftParams | RewardParams | PpoParams, use: Use) -> _Rate:
    bf16 = uses_bf16(params.precision, config, use)
    return _Rate(seconds_a_token(config, use, bf16=bf16), "bf16" if bf16 else "fp32")
