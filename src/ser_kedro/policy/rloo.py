"""REINFORCE with a leave-one-out baseline, through TRL's trainer.

Ahmadian et al. 2024 (arXiv 2402.14740): each prompt gets several answers, and the mean
reward of the others is an answer's baseline; no values are learned. The loop, the loss
and the advantages are TRL's. Ours are the prompts' token ids, the rewards, the
controller of the KL, and everything around the loop, as in ``Ppo``.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from transformers import TrainerCallback
from trl import RLOOConfig, RLOOTrainer

from ser_kedro.policy.ppo import Ppo
from ser_kedro.policy.ppo_checkpoint import Progress
from ser_kedro.policy.ppo_formulas import merge_moments, next_kl_coefficient
from ser_kedro.store.json_io import write_json
from ser_kedro.training.resume import CHECKPOINTS, last_checkpoint
from ser_kedro.training.run import train


class Rloo(Ppo):
    """A run of RLOO; its parameters, history and policies are those of ``Ppo``.

    ``batch_size`` counts answers: a rollout holds ``answers_per_prompt`` of them for
    each of its prompts. The value head stays as it is.
    """

    def _begin(self) -> None:
        params = self.params
        share = params.mini_batch_size // self.processes
        micro = params.micro_batch_size or share
        # Optimiser steps that learn from one rollout.
        self.updates = params.batch_size // params.mini_batch_size * params.ppo_epochs
        self.rolled: dict[str, Any] = {}
        self.trainer = _Trainer(
            self,
            args=RLOOConfig(
                output_dir=str(self.folder.path / CHECKPOINTS),
                max_steps=self.steps * self.updates,
                num_generations=params.answers_per_prompt,
                generation_batch_size=params.batch_size,
                num_iterations=params.ppo_epochs,
                per_device_train_batch_size=micro,
                gradient_accumulation_steps=share // micro,
                learning_rate=params.learning_rate,
                lr_scheduler_type="constant",
                optim="adamw_torch" if params.optimizer == "adamw" else "adafactor",
                adam_epsilon=1e-5,  # as PPO's
                weight_decay=0.0,
                max_grad_norm=params.max_grad_norm,
                beta=params.kl_coefficient,
                epsilon=params.clip_range,
                normalize_advantages=params.whiten_advantages,
                max_completion_length=params.max_new_tokens,
                temperature=params.temperature,
                top_k=params.top_k,
                top_p=params.top_p,
                generation_kwargs={"no_repeat_ngram_size": 0, "min_new_tokens": 0},
                bf16=self.dtype == torch.bfloat16,
                use_cpu=self.accelerator.device.type == "cpu",
                disable_dropout=not params.dropout,
                gradient_checkpointing=params.gradient_checkpointing,
                gradient_checkpointing_kwargs={"use_reentrant": False},
                shuffle_dataset=False,  # the row below has its own order
                logging_steps=self.updates,
                save_strategy="steps",
                save_steps=params.save_steps * self.updates,
                save_total_limit=2,
                report_to="none",
                disable_tqdm=True,
                seed=self.seed,
            ),
            train_dataset=self._row_of_prompts(),
            callbacks=[_AfterRollout(self)],
        )
        if self.trainer.ref_model is not None:
            # TRL has its own copy of the start: one is enough.
            object.__setattr__(self.actor, "reference", self.trainer.ref_model)
        if (found := last_checkpoint(self.folder.path)) is not None:
            step = int(found.rpartition("-")[2]) // self.updates
            self.progress = Progress.read(self._progress_file(step))

    def _row_of_prompts(self) -> Dataset:
        """Return the prompts of all rollouts in order, each as its number.

        TRL would encode texts in its own way; ``_Trainer`` gives it our token ids.
        """
        prompts = self.params.batch_size // self.params.answers_per_prompt
        row = self._drawn(range(self.steps * prompts))
        return Dataset.from_dict({"prompt": [str(place) for place in row]})

    def _progress_file(self, step: int) -> Any:
        return self.folder.path / f"progress-{step}.json"

    def score(
        self, prompts: list[str], completion_ids: list[list[int]], **_: Any
    ) -> list[float]:
        """Return what TRL maximises: the reward of each answer, as ``Ppo`` takes it."""
        dialogues = [self.dialogues[int(place)] for place in prompts]
        texts = [self._text(answer) for answer in completion_ids]
        rewards, gold = self._rewards(dialogues, texts)
        raw = [float(r) for r in gather_object(rewards)]
        self.progress.rewards = merge_moments(self.progress.rewards, raw)
        ended = torch.tensor(
            [answer[-1] in self.eos for answer in completion_ids],
            device=self.accelerator.device,
        )
        scores = self._scores(rewards, ended, self.params.reward)
        self.rolled = {
            **self._of_texts(texts, raw, gold),
            "reward": self.ranks.mean(scores),
            "kl_coefficient": self.progress.kl_coefficient,
            "eos_share": self.ranks.mean(ended.float()),
        }
        return [float(score) for score in scores]

    def rolled_out(self, kl: float | None, length: float) -> None:
        """Take note of a rollout's mean KL in nats a sequence, and its mean length."""
        progress, params = self.progress, self.params
        self.rolled |= {"kl": kl, "length": length}
        if kl is not None:
            progress.kl_coefficient = next_kl_coefficient(
                progress.kl_coefficient, kl, params.batch_size, params
            )

    def learned(self, logs: dict[str, Any]) -> None:
        """Close a step with what TRL logged of its updates.

        Raises:
            PolicyError: If the loss or the gradient is not a finite number.
        """
        figures = {
            "policy_loss": logs["loss"],
            "grad_norm": logs["grad_norm"],
            "entropy": logs["entropy"],
            "clip_fraction": logs["clip_ratio/region_mean"],
        }
        wrong = [n for n in ("policy_loss", "grad_norm") if not _is_finite(figures[n])]
        if wrong:
            self._stop(f"{', '.join(wrong)} of an update not finite", [])
        figures["updates"] = float(self.updates)
        self._step_done({**self.rolled, **figures})

    def keep_progress(self) -> None:
        """Write where the run is, for the checkpoint that TRL writes next."""
        if self.rank == 0:
            values = asdict(self.progress)
            write_json(self._progress_file(self.progress.step), values)

    def run(self) -> Progress:
        """Train to the end, with checkpoints on the way."""
        self._judge_first()
        train(self.trainer, self.folder.path, "rloo")
        optimizer = self.trainer.optimizer
        self.folder.save(self.progress, self.actor.trainable(), optimizer)
        return self.progress


class _Trainer(RLOOTrainer):  # type: ignore[misc]
    """TRL's trainer with our token ids, rewards, controller and progress."""

    def __init__(self, run: Rloo, **kwargs: Any) -> None:
        self.ours = run
        super().__init__(
            model=run.actor.language_model,
            reward_funcs=run.score,
            processing_class=run.encoder.tokenizer,
            **kwargs,
        )

    def _tokenize_prompts(
        self, prompts: list[str]
    ) -> tuple[list[list[int]], None, Any]:
        return [self.ours.prompt_ids[int(place)] for place in prompts], None, {}

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> Any:
        self.beta = self.ours.progress.kl_coefficient
        batch = super()._generate_and_score_completions(inputs)
        metrics = self._metrics["train"]
        length = metrics["completions/mean_length"][-1]
        # TRL's is nats a token over the rollout; times the mean length, a sequence.
        kl = metrics["kl"][-1] * length if self.beta else None
        self.ours.rolled_out(kl, length)
        return batch

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self.ours.keep_progress()
        super()._save_checkpoint(model, trial)


class _AfterRollout(TrainerCallback):
    """Closes a step of ours when TRL has logged its updates."""

    def __init__(self, run: Rloo) -> None:
        self.ours = run

    def on_log(self, *_: Any, logs: dict[str, Any], **__: Any) -> None:
        if "loss" in logs:  # the last log of a run has no updates behind it
            self.ours.learned(logs)


def _is_finite(value: Any) -> bool:
    return value is not None and math.isfinite(float(value))
