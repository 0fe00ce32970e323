"""The job that trains the policy."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import ClassVar, TypedDict

from ser_kedro.errors import ParameterError
from ser_kedro.launch.rank import deepspeed_file
from ser_kedro.models.params import Scoring
from ser_kedro.policy.ppo_params import PpoParams
from ser_kedro.preferences.demo_world.world import WorldParams
from ser_kedro.store.job import NOT_MINE, Job
from ser_kedro.store.references import ModelRef, TableRef


class PpoOutputs(TypedDict):
    """The best and the last policy, a row a step, and answers before and after."""

    policy: ModelRef
    last_policy: ModelRef
    history: TableRef
    samples: TableRef


class PpoJob(Job[PpoOutputs]):
    """Train a language model against a reward model, with PPO or RLOO.

    Attributes:
        sft_model: The language model to start from, which is the reference too.
        reward_model: What to maximise.
        prompts: A table with a column ``prompt``.
        params: How to train.
        scoring: How the reward model is applied.
        gold: The demo world whose gold reward is logged beside the reward; it has no
            effect on the training. ``None`` where the gold reward is unknown.
        seed: Draws adapters, prompts and answers.
    """

    stage: ClassVar[str] = "ppo"
    distributed: ClassVar[bool] = True
    libraries: ClassVar[tuple[str, ...]] = (
        "torch",
        "transformers",
        "tokenizers",
        "trl",
        "peft",
        "accelerate",
    )

    sft_model: ModelRef
    reward_model: ModelRef
    prompts: TableRef
    params: PpoParams
    scoring: Scoring
    gold: WorldParams | None = None
    seed: int

    @property
    def title(self) -> str:
        """What it does, for the log."""
        return f"Train a policy by {self.params.algorithm.upper()}"

    def work(self, workspace: Path) -> PpoOutputs:
        """Write ``policy``, ``last_policy``, ``history`` and ``samples``.

        ``policy`` is the best on held-out prompts within the bound on the KL. Ranks
        share each rollout and each mini-batch; every one of them holds whole models.

        Raises:
            ParameterError: If the launcher asks for DeepSpeed.
        """
        if deepspeed_file() is not None:
            raise ParameterError(
                "ppo: runs under data parallelism only, and this launcher asks for"
                " DeepSpeed; for this pipeline choose one without, such as --params"
                " launcher=gpu8_ddp"
            )
        from ser_kedro.policy.train import train_policy

        trained = train_policy(
            self.sft_model.location,
            self.reward_model.location,
            self.prompts,
            self.params,
            self.scoring,
            self.gold,
            self.seed,
            workspace,
        )
        if trained is None:
            return NOT_MINE
        return {
            "policy": self._made("policy", trained.best),
            "last_policy": self._made("last_policy", trained.last),
            "history": trained.history,
            "samples": trained.samples,
        }

    def _made(self, name: str, metrics: dict[str, float]) -> ModelRef:
        # One job, two models: its fingerprint alone would not tell them apart.
        identity = f"{self.fingerprint} {name}"
        return ModelRef(
            kind="language_model",
            path=name,
            fingerprint=hashlib.sha256(identity.encode()).hexdigest()[:32],
            base_model=self.sft_model.base_model,
            metrics=metrics,
        )
