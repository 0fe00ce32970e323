"""Proximal policy optimisation of a language model against a reward model.

To be read from top to bottom: one rollout, one update and one evaluation; at the end
the loop around them. The formulas, with their sources, are ``ppo_formulas``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor
from tqdm import tqdm
from transformers import Adafactor

from ser_kedro.errors import DataError, ParameterError, PolicyError
from ser_kedro.models.calibration import Calibration
from ser_kedro.models.encode import Encoder, Messages
from ser_kedro.models.half import bf16_linears, hold_bf16
from ser_kedro.models.heap import keep_freed_memory
from ser_kedro.models.memory_use import Pieces
from ser_kedro.policy.actor_critic import ActorCritic, precision
from ser_kedro.policy.batch import Batch, collate
from ser_kedro.policy.generate import ends_of, sample
from ser_kedro.policy.over_ranks import OverRanks
from ser_kedro.policy.ppo_checkpoint import Folder, HeldOut, Progress
from ser_kedro.policy.ppo_formulas import (
    advantages_and_returns,
    merge_moments,
    next_kl_coefficient,
    policy_losses,
    rewards_of_tokens,
    value_losses,
)
from ser_kedro.policy.ppo_params import PpoParams

# Rewards of texts: n prompts and n responses in, n numbers out. Any tokenizer, any
# template, any model.
RewardFunction = Callable[[Sequence[Messages], Sequence[str]], Sequence[float]]

_EPSILON = 1e-8
# The draws of an evaluation are the same in every evaluation.
_EVALUATION_SEED = 20_240_411
_UNBOUNDED = 10**9


@dataclass(frozen=True)
class Written:
    """Answers of the policy, read by policy and reference, and scored.

    Attributes:
        dialogues: The ``n`` prompts.
        prompts: Their token ids.
        answers: Token ids of the answers, eos included.
        texts: The answers as text.
        ended: Whether each answer has its eos, shape ``(n,)``.
        rewards: Raw rewards, of length ``n``.
        gold: Gold rewards, where there are any.
        mask: True on real tokens, shape ``(n, t)``; so have the rest.
        log_probs: Of the policy, in nats.
        log_ratio: Less those of the reference.
        values: Of the states before each token.
        entropies: Of the policy in these states, in nats.
    """

    dialogues: list[Messages]
    prompts: list[list[int]]
    answers: list[list[int]]
    texts: list[str]
    ended: Tensor
    rewards: list[float]
    gold: list[float] | None
    mask: Tensor
    log_probs: Tensor
    log_ratio: Tensor
    values: Tensor
    entropies: Tensor


@dataclass(frozen=True)
class Rollout:
    """One batch of answers, and what the updates learn from it.

    Attributes:
        written: The answers.
        advantages: Of each token, whitened if so asked, shape ``(n, t)``.
        returns: What the values should have been, of the same shape.
        statistics: For the history; over all processes.
    """

    written: Written
    advantages: Tensor
    returns: Tensor
    statistics: dict[str, Any]


class Ppo:
    """A run of PPO: rollouts, updates, evaluations, checkpoints.

    Attributes:
        actor: Policy, reference and value.
        progress: Where the run is.
    """

    def __init__(
        self,
        actor: ActorCritic,
        encoder: Encoder,
        prompts: Sequence[Messages],
        reward: RewardFunction,
        params: PpoParams,
        *,
        folder: Path,
        seed: int,
        calibration: Calibration | None = None,
        gold: RewardFunction | None = None,
    ) -> None:
        """Prepare a run, or take it up where ``folder`` has it.

        Args:
            actor: What to train.
            encoder: The policy's; its ``max_length`` is not used.
            prompts: Dialogues. Some are held out, as ``params`` say.
            reward: What to maximise; raw rewards of texts.
            params: How.
            folder: For checkpoints, of this run alone.
            seed: Draws the order of the prompts and the answers.
            calibration: Of the rewards, where their sigmoid is taken.
            gold: A second reward, which is logged and has no effect.

        Raises:
            DataError: If no prompt is left to train on.
            ParameterError: If the batches do not divide among the processes.
        """
        keep_freed_memory()
        self.params = params
        self.encoder = encoder
        self.reward, self.gold = reward, gold
        self.calibration = calibration or Calibration()
        # Without a word accelerate's ranks meet on GPUs only.
        self.accelerator = Accelerator(cpu=not torch.cuda.is_available())
        self.rank = self.accelerator.process_index
        self.processes = self.accelerator.num_processes
        self.ranks = OverRanks(self.accelerator)
        if params.mini_batch_size % self.processes:
            raise ParameterError(
                f"ppo.mini_batch_size={params.mini_batch_size}: must be a multiple of"
                f" the {self.processes} processes, as must ppo.batch_size"
            )
        if 0 < params.eval_prompts < self.processes:
            raise ParameterError(
                f"ppo.eval_prompts={params.eval_prompts}: must be 0 or at least the"
                f" number of processes, {self.processes}"
            )
        self.rows_written = self._pieces("rollout_batch_size")
        self.rows_learned = self._pieces("micro_batch_size")
        self.dialogues = list(prompts)
        self.held_out, self.training = self._hold_out(seed)
        self.seed = seed
        self.steps = params.steps or math.ceil(
            params.epochs * len(self.training) / params.batch_size
        )
        self.prompt_ids, self.cut_prompts = self._encode()
        tokenizer = encoder.tokenizer
        self.eos = ends_of(actor.causal, tokenizer)
        self.pad = int(tokenizer.pad_token_id or 0)  # masked wherever it stands

        actor.to(self.accelerator.device)
        actor.check(self.prompt_ids[0])
        self.actor = actor
        self.dtype = precision(actor.causal.config, params)
        if self.dtype == torch.bfloat16 and actor.reference is not None:
            hold_bf16(actor.reference)
        self.folder = Folder(folder, self.rank)
        self.progress = Progress(params.kl_coefficient)
        self._begin()

    def _pieces(self, name: str) -> Pieces:
        """Return how many answers are worked on at once, by the parameter's name."""
        hint = f"ppo: out of memory; lower ppo.{name} or ppo.max_new_tokens, or train"
        return Pieces(
            getattr(self.params, name),
            halves=self.processes == 1,
            hint=f"{hint} adapters (ppo.lora)",
        )

    def _begin(self) -> None:
        """Prepare for training, or take it up where the folder has it."""
        optimizer = _optimizer(self.actor, self.params)
        self.model, self.optimizer = self.accelerator.prepare(self.actor, optimizer)
        # Each process samples on its own; weights are the same everywhere.
        torch.manual_seed(self.seed + self.rank)
        if (found := self.folder.load(self.optimizer)) is not None:
            self.progress, weights = found
            self.actor.load_trainable(weights)

    # ------------------------------------------------------------------------- prompts

    def _hold_out(self, seed: int) -> tuple[list[int], list[int]]:
        order = np.random.default_rng(seed).permutation(len(self.dialogues)).tolist()
        held_out = order[: self.params.eval_prompts]
        training = order[self.params.eval_prompts :]
        if not training:
            raise DataError(
                f"ppo: {len(order)} prompts, of which eval_prompts="
                f"{self.params.eval_prompts} are held out, leave none to train on;"
                " lower ppo.eval_prompts"
            )
        return held_out, training

    def _encode(self) -> tuple[list[list[int]], int]:
        """Return the prompts as ids, cut on the left, and how many were cut."""
        limit, tokenizer = self.params.max_prompt_length, self.encoder.tokenizer
        cutting, whole = Encoder(tokenizer, limit), Encoder(tokenizer, _UNBOUNDED)
        ids = [cutting.prompt_ids(prompt) for prompt in self.dialogues]
        cut = sum(len(whole.prompt_ids(prompt)) > limit for prompt in self.dialogues)
        return ids, cut

    def _prompts_of(self, step: int) -> list[int]:
        """Return the prompts of a rollout: this process's part of a batch."""
        size = self.params.batch_size
        drawn = self._drawn(range(step * size, (step + 1) * size))
        return drawn[self.rank :: self.processes]

    def _drawn(self, places: range) -> list[int]:
        """Return the prompts at places of the row that training walks along.

        The passes over the prompts, each in an order of its own, are one long row of
        which each rollout takes the next piece. So a step says all about the position.
        """
        count = len(self.training)
        orders = {
            turn: np.random.default_rng([self.seed, turn]).permutation(count)
            for turn in {place // count for place in places}
        }
        return [self.training[orders[p // count][p % count]] for p in places]

    # ------------------------------------------------------------------------- rollout

    @torch.no_grad()
    def rollout(self) -> Rollout:
        """Let the policy answer the next prompts, and judge the answers token by token.

        Raises:
            PolicyError: If a reward is not a finite number.
        """
        params, progress = self.params, self.progress
        written = self._write(self._prompts_of(progress.step))
        raw = [float(r) for r in gather_object(written.rewards)]
        progress.rewards = merge_moments(progress.rewards, raw)
        scores = self._scores(written.rewards, written.ended, params.reward)
        rewards = rewards_of_tokens(
            scores, written.log_ratio, written.mask, progress.kl_coefficient
        )
        advantages, returns = advantages_and_returns(
            rewards, written.values, written.mask, gamma=params.gamma, lam=params.lam
        )
        explained = self.ranks.explained_variance(returns, written.values, written.mask)
        if params.whiten_advantages:
            mean, variance = self.ranks.moments(advantages, written.mask)
            advantages = (advantages - mean) / math.sqrt(variance + _EPSILON)
            advantages = advantages * written.mask
        lengths = written.mask.sum(1)
        kls = written.log_ratio.sum(1)
        statistics = {
            **self._of_texts(written.texts, raw, written.gold),
            "reward": self.ranks.mean(scores),
            "kl": self.ranks.mean(kls),
            "kl_coefficient": progress.kl_coefficient,
            "entropy": self.ranks.moments(written.entropies, written.mask)[0],
            "explained_variance": explained,
            "length": self.ranks.mean(lengths.float()),
            "eos_share": self.ranks.mean(written.ended.float()),
        }
        return Rollout(written, advantages, returns, statistics)

    def _write(self, places: Sequence[int]) -> Written:
        """Sample answers to the prompts at ``places``, read them and score them."""
        self.actor.eval()
        prompts = [self.prompt_ids[place] for place in places]
        with self._reading():
            answers = self.rows_written.work(
                len(prompts), partial(self._generate, prompts)
            )
            columns = self.rows_written.work(
                len(prompts), partial(self._read, prompts, answers)
            )
        mask, log_probs, log_ratio, values, entropies = columns
        ended = torch.tensor([row[-1] in self.eos for row in answers])
        texts = [self._text(row) for row in answers]
        dialogues = [self.dialogues[place] for place in places]
        rewards, gold = self._rewards(dialogues, texts)
        return Written(
            dialogues=dialogues,
            prompts=prompts,
            answers=answers,
            texts=texts,
            ended=ended.to(mask.device),
            rewards=rewards,
            gold=gold,
            mask=mask,
            log_probs=log_probs,
            log_ratio=log_ratio,
            values=values,
            entropies=entropies,
        )

    def _generate(self, prompts: list[list[int]], size: int) -> list[list[int]]:
        """Sample one answer to each prompt, ``size`` at once."""
        answers: list[list[int]] = []
        for i in range(0, len(prompts), size):
            part = prompts[i : i + size]
            batch = self._collate(part, [[]] * len(part))
            answers += sample(self.actor.causal, batch, self.params, self.eos)
        return answers

    def _read(
        self, prompts: list[list[int]], answers: list[list[int]], size: int
    ) -> list[Tensor]:
        """Return mask, log-probabilities, log ratios, values and entropies."""
        longest = max(map(len, answers), default=1)
        temperature = self.params.temperature
        columns: list[list[Tensor]] = [[], [], [], [], []]
        for i in range(0, len(prompts), size):
            batch = self._collate(prompts[i : i + size], answers[i : i + size])
            log_probs, values, entropies = self.actor(batch, temperature, entropy=True)
            reference = self.actor.reference_log_probs(batch, temperature)
            read = (batch.mask, log_probs, log_probs - reference, values, entropies)
            for column, part in zip(columns, read, strict=True):
                column.append(_widen(part, longest))
        return [torch.cat(column) for column in columns]

    def _text(self, answer: list[int]) -> str:
        text = self.encoder.tokenizer.decode(answer, skip_special_tokens=True)
        return str(text).strip()

    def _rewards(
        self, dialogues: list[Messages], texts: list[str]
    ) -> tuple[list[float], list[float] | None]:
        """Return the raw rewards of answers, and their gold rewards if there are any.

        Raises:
            PolicyError: If a reward is not a finite number.
        """
        rewards = [float(r) for r in self.reward(dialogues, texts)]
        rows = zip(dialogues, texts, rewards, strict=True)
        bad = [row for row in rows if not math.isfinite(row[2])]
        if bad:
            self._stop(f"{len(bad)} of {len(texts)} rewards are not finite", bad)
        return rewards, self.gold and [float(r) for r in self.gold(dialogues, texts)]

    def _of_texts(
        self, texts: list[str], raw: list[float], gold: list[float] | None
    ) -> dict[str, Any]:
        """Return what the history says of a rollout's texts and their raw rewards.

        Args:
            texts: Of this process.
            raw: Raw rewards of all processes.
            gold: Gold rewards of this process.
        """
        texts = gather_object(texts)
        gold = None if gold is None else gather_object(gold)
        return {
            "raw_reward": float(np.mean(raw)),
            "reward_deviation": float(np.std(raw)),
            "gold_reward": None if gold is None else float(np.mean(gold)),
            "empty_answers": float(sum(not text for text in texts)),
            "equal_answers": float(len(set(texts)) == 1 < len(texts)),
        }

    def _scores(self, rewards: list[float], ended: Tensor, kind: str) -> Tensor:
        """Return what each answer earns before the KL penalty, shape ``(n,)``."""
        raw = np.asarray(rewards, np.float64)
        if kind == "sigmoid":
            raw = self.calibration.probabilities(raw)
        elif kind == "normalized":
            count, mean, squares = self.progress.rewards
            raw = (raw - mean) / math.sqrt(squares / count + _EPSILON)
        scores = torch.tensor(raw, dtype=torch.float32, device=ended.device)
        return scores - self.params.missing_eos_penalty * ~ended

    # -------------------------------------------------------------------------- update

    def update(self, rollout: Rollout) -> dict[str, float]:
        """Learn from a rollout, mini-batch by mini-batch; return means for the history.

        Raises:
            PolicyError: If a ratio or a gradient is not a finite number; the weights
                are left as they were before that optimiser step.
        """
        params = self.params
        size = params.mini_batch_size // self.processes
        totals: dict[str, float] = {}
        done = 0
        self.model.train()
        for _ in range(params.ppo_epochs):
            order = torch.randperm(len(rollout.written.answers)).tolist()
            for i in range(0, len(order), size):
                figures = self._learn(rollout, order[i : i + size])
                done += 1
                for name, value in figures.items():
                    totals[name] = totals.get(name, 0.0) + value
                limit = params.early_stop_kl
                if limit is not None and figures["update_kl"] > 1.5 * limit:
                    return {**_over(totals, done), "updates": float(done)}
        return {**_over(totals, done), "updates": float(done)}

    def _learn(self, rollout: Rollout, rows: list[int]) -> dict[str, float]:
        """Take one optimiser step on the rows of a mini-batch."""
        params, written = self.params, rollout.written
        # A token counts the same in whichever mini-batch, row or process it stands.
        tokens = self.ranks.sum(written.mask[rows].sum().float())

        def gradients(size: int) -> Tensor:
            self.optimizer.zero_grad()
            sums = torch.zeros(5, device=written.mask.device)
            for i in range(0, len(rows), size):
                part = rows[i : i + size]
                last = i + size >= len(rows)
                with nullcontext() if last else self.accelerator.no_sync(self.model):
                    self._backward(rollout, part, tokens, sums)
            return sums

        sums = self.rows_learned.work(len(rows), gradients)
        # Each for itself: large errors of the values must not shrink the policy's step.
        norm, _ = (
            self.accelerator.clip_grad_norm_(group["params"], params.max_grad_norm)
            for group in self.optimizer.param_groups
        )
        sums = self.accelerator.reduce(sums, "sum")
        figures = dict(
            zip(
                ("policy_loss", "value_loss", "ratio", "clip_fraction", "update_kl"),
                (sums / tokens).tolist(),
                strict=True,
            )
        )
        figures["grad_norm"] = float(norm)
        if not all(math.isfinite(value) for value in figures.values()):
            self.optimizer.zero_grad()
            wrong = [name for name, v in figures.items() if not math.isfinite(v)]
            self._stop(
                f"{', '.join(wrong)} of an update not finite",
                [
                    (written.dialogues[i], written.texts[i], written.rewards[i])
                    for i in rows
                ],
            )
        self.optimizer.step()
        self.optimizer.zero_grad()
        return figures

    def _backward(
        self, rollout: Rollout, rows: list[int], tokens: float, sums: Tensor
    ) -> None:
        """Add the gradients of some rows, and their figures to ``sums``."""
        params, written = self.params, rollout.written
        batch = self._collate(
            [written.prompts[row] for row in rows],
            [written.answers[row] for row in rows],
        )
        width = batch.mask.shape[1]

        def part(column: Tensor) -> Tensor:
            return column[rows, :width]

        with self._autocast():
            log_probs, values, _ = self.model(batch, params.temperature)
        losses, ratio = policy_losses(
            log_probs,
            part(written.log_probs),
            part(rollout.advantages),
            params.clip_range,
        )
        errors = value_losses(
            values, part(written.values), part(rollout.returns), params.value_clip_range
        )
        policy_loss = (losses * batch.mask).sum()
        value_loss = (errors * batch.mask).sum()
        loss = (policy_loss + params.value_coefficient * value_loss) / tokens
        # Gradients are averaged over processes, and this is a part of a sum.
        self.accelerator.backward(loss * self.processes)
        with torch.no_grad():
            moved = log_probs - part(written.log_probs)
            clipped = (ratio - 1).abs() > params.clip_range
            columns = (ratio, clipped.float(), 0.5 * moved**2)
            means = [(column * batch.mask).sum() for column in columns]
            sums += torch.stack([policy_loss, value_loss, *means])

    # ---------------------------------------------------------------------- evaluation

    @torch.no_grad()
    def evaluate(self) -> HeldOut:
        """Answer the held-out prompts, with the same draws in every evaluation."""
        device = self.accelerator.device
        devices = [device] if device.type == "cuda" else []
        places = self.held_out[self.rank :: self.processes]
        with torch.random.fork_rng(devices):
            torch.manual_seed(_EVALUATION_SEED + self.rank)
            written = self._write(places)
        # A running normalisation would make evaluations incomparable.
        kind = "raw" if self.params.reward == "normalized" else self.params.reward
        columns = (
            written.texts,
            written.rewards,
            self._scores(written.rewards, written.ended, kind).tolist(),
            self._kl(written),
            written.gold or [math.nan] * len(places),
        )
        rows = list(zip(places, *columns, strict=True))
        found = {row[0]: row[1:] for row in gather_object(rows)}
        texts, rewards, scores, kls, gold = zip(
            *(found[place] for place in self.held_out), strict=True
        )
        return HeldOut(
            step=self.progress.step,
            reward=float(np.mean(scores)),
            gold=float(np.mean(gold)) if self.gold else None,
            kl=float(np.mean(kls)),
            texts=list(texts),
            rewards=list(rewards),
        )

    def _kl(self, written: Written) -> list[float]:
        """Return the KL to the reference along each answer, nats a sequence."""

        def kls(size: int) -> list[float]:
            found: list[float] = []
            for i in range(0, len(written.prompts), size):
                batch = self._collate(
                    written.prompts[i : i + size], written.answers[i : i + size]
                )
                kl = self.actor.kl(batch, self.params.temperature)
                found += kl.sum(1).tolist()
            return found

        with self._reading():
            return self.rows_written.work(len(written.prompts), kls)

    def _judge(self) -> None:
        """Evaluate, and keep the weights if no policy within the bound was better."""
        progress = self.progress
        held_out = self.evaluate()
        progress.last = held_out
        progress.before = progress.before or held_out
        best = progress.best
        if best is not None and (
            held_out.kl > self.params.kl_bound or held_out.reward <= best.reward
        ):
            return
        # The first policy is the reference, and so within every bound.
        progress.best = held_out
        self.folder.keep_best(progress.step, self.actor.trainable())

    def _judge_first(self) -> None:
        if self.progress.step == 0 and self.held_out:
            self._judge()
            self.progress.history.append(self._row({}))

    def _step_done(self, figures: dict[str, Any]) -> None:
        """Close a step: evaluate if it is time to, and add a row to the history."""
        progress = self.progress
        progress.step += 1
        due = progress.step % self.params.eval_steps == 0 or progress.step == self.steps
        if self.held_out and due:
            self._judge()
        progress.history.append(self._row(figures))

    # ------------------------------------------------------------------------ the loop

    def run(self) -> Progress:
        """Train to the end, with checkpoints on the way."""
        params, progress = self.params, self.progress
        self._judge_first()
        for _ in self._bar():
            rollout = self.rollout()
            learned = self.update(rollout)
            progress.kl_coefficient = next_kl_coefficient(
                progress.kl_coefficient,
                rollout.statistics["kl"],
                params.batch_size,
                params,
            )
            self._step_done({**rollout.statistics, **learned})
            if progress.step % params.save_steps == 0 or progress.step == self.steps:
                self.folder.save(progress, self.actor.trainable(), self.optimizer)
        return progress

    def _bar(self) -> Iterator[int]:
        left = range(self.progress.step, self.steps)
        silent = True if self.rank else None
        bar = tqdm(
            left, "ppo", self.steps, initial=left.start, unit="step", disable=silent
        )
        for step in bar:
            yield step
            row = self.progress.history[-1]
            bar.set_postfix(reward=f"{row['reward']:.3f}", kl=f"{row['kl']:.2f}")

    def _row(self, figures: dict[str, Any]) -> dict[str, Any]:
        held_out = self.progress.last
        fresh = held_out is not None and held_out.step == self.progress.step
        held = {
            f"held_out_{name}": getattr(held_out, name) if fresh else None
            for name in ("reward", "gold", "kl")
        }
        return {"step": self.progress.step, **figures, **held}

    def _stop(self, reason: str, rows: list[tuple[Messages, str, float]]) -> NoReturn:
        step = self.progress.step + 1
        saved = [
            # JSON knows neither NaN nor infinity.
            {"prompt": list(prompt), "response": text, "reward": str(reward)}
            for prompt, text, reward in rows
        ]
        file = self.folder.save_mishap(step, reason, saved)
        kept = self.folder.latest
        raise PolicyError(
            f"ppo: step {step}: {reason}; the texts are in {file}"
            + (f", the last good checkpoint in {kept}" if kept else "")
            + "; lower ppo.learning_rate, or look at the reward model"
        )

    # ------------------------------------------------------------------------ passes

    def _collate(self, prompts: list[list[int]], answers: list[list[int]]) -> Batch:
        return collate(prompts, answers, self.pad, self.accelerator.device)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Compute in the precision that was asked for, without gradients."""
        half = self.dtype == torch.bfloat16
        with bf16_linears(self.actor.language_model, enabled=half), self._autocast():
            yield

    def _autocast(self) -> torch.autocast:
        return torch.autocast(
            self.accelerator.device.type,
            torch.bfloat16,
            enabled=self.dtype == torch.bfloat16,
        )


def _optimizer(actor: ActorCritic, params: PpoParams) -> torch.optim.Optimizer:
    head = list(actor.value_head.parameters())
    ids = {id(weight) for weight in head}
    rest = [w for w in actor.trainable().values() if id(w) not in ids]
    rate = params.learning_rate
    groups = [
        {"params": rest, "lr": rate},
        {"params": head, "lr": params.value_learning_rate or rate},
    ]
    if params.optimizer == "adamw":
        # ε as in OpenAI's code and TRL's (Huang et al. 2024): 1e-5, not 1e-8.
        # Fused: one pass over the weights, a quarter of the time, no temporary copies.
        return torch.optim.AdamW(groups, eps=1e-5, weight_decay=0.0, fused=True)
    # At a fixed rate: scaled by the weights' size, new adapters would never move.
    return Adafactor(groups, lr=rate, scale_parameter=False, relative_step=False)


def _widen(column: Tensor, width: int) -> Tensor:
    return torch.nn.functional.pad(column, (0, width - column.shape[1]))


def _over(totals: dict[str, float], count: int) -> dict[str, float]:
    return {name: value / count for name, value in totals.items()}
