"""The job that trains the policy."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypedDict

import pyarrow as pa

from ser_kedro.errors import ParameterError
from ser_kedro.launch.rank import deepspeed_file, is_main
from ser_kedro.models.calibration import CALIBRATION, Calibration
from ser_kedro.models.log_filters import quiet
from ser_kedro.policy.ppo_params import PpoParams
from ser_kedro.preferences.demo_world.world import WorldParams, gold_rewards
from ser_kedro.preferences.schema import PROMPT, Message
from ser_kedro.store.job import NOT_MINE, Job
from ser_kedro.store.references import ModelRef, TableRef
from ser_kedro.store.tables import read_table, write_table
from ser_kedro.training.params import Scoring

if TYPE_CHECKING:
    from ser_kedro.models.encode import Messages
    from ser_kedro.policy.ppo import Ppo, RewardFunction
    from ser_kedro.policy.ppo_checkpoint import HeldOut, Progress

logger = logging.getLogger(__name__)

_RUN = "ppo"
# Empty where a figure was not measured at that step.
HISTORY = pa.schema(
    [
        ("step", pa.int64()),
        *(
            (name, pa.float64())
            for name in (
                "reward",
                "raw_reward",
                "reward_deviation",
                "gold_reward",
                "kl",
                "kl_coefficient",
                "entropy",
                "policy_loss",
                "value_loss",
                "ratio",
                "clip_fraction",
                "update_kl",
                "grad_norm",
                "updates",
                "explained_variance",
                "length",
                "eos_share",
                "empty_answers",
                "equal_answers",
                "held_out_reward",
                "held_out_gold",
                "held_out_kl",
            )
        ),
    ]
)
SAMPLES = pa.schema(
    [
        ("prompt", PROMPT),
        ("before", pa.string()),
        ("after", pa.string()),
        ("reward_before", pa.float64()),
        ("reward_after", pa.float64()),
    ]
)


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

    @quiet()
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
        from ser_kedro.policy.ppo_checkpoint import WEIGHTS, Folder

        prompts = read_table(self.prompts)["prompt"].to_pylist()
        progress, held_out, metrics = self._train(prompts, workspace)
        if not is_main():
            return NOT_MINE
        folder = Folder(workspace / _RUN, 0)
        last = folder.path / f"checkpoint-{progress.step}" / WEIGHTS
        best, kept = last, progress.last
        if progress.best is not None:
            best, kept = folder.best(progress.best.step), progress.best
        self._save(best, workspace / "policy")
        self._save(last, workspace / "last_policy")
        batch = pa.RecordBatch.from_pylist(progress.history, HISTORY)
        rows = list(_samples(held_out, progress.before, kept))
        sampled = pa.RecordBatch.from_pylist(rows, SAMPLES)
        outputs: PpoOutputs = {
            "policy": self._output("policy", {**metrics, **_figures(kept)}),
            "last_policy": self._output(
                "last_policy", {**metrics, **_figures(progress.last)}
            ),
            "history": write_table(workspace, "history", [batch], HISTORY),
            "samples": write_table(workspace, "samples", [sampled], SAMPLES),
        }
        shutil.rmtree(workspace / _RUN)
        return outputs

    def _train(
        self, prompts: list[Messages], workspace: Path
    ) -> tuple[Progress, list[Messages], dict[str, Any]]:
        import torch
        from transformers import AutoTokenizer

        from ser_kedro.models.encode import Encoder
        from ser_kedro.models.reward_model import check_window, from_pretrained
        from ser_kedro.models.scorer import Scorer
        from ser_kedro.policy.actor_critic import ActorCritic

        params = self.params
        torch.manual_seed(self.seed)  # the same new adapters in every process
        actor = ActorCritic.load(self.sft_model.location, params)
        length = params.max_prompt_length + params.max_new_tokens
        check_window(actor.causal.config, length, "ppo")
        tokenizer = from_pretrained(AutoTokenizer, self.sft_model.location)
        reward_model = self.reward_model.location
        calibrated = (reward_model / CALIBRATION).is_file()
        ppo = self._algorithm()(
            actor,
            Encoder(tokenizer, length),
            prompts,
            Scorer.load(reward_model, self.scoring).text_rewards,
            params,
            folder=workspace / _RUN,
            seed=self.seed,
            calibration=Calibration.load(reward_model) if calibrated else None,
            gold=None if self.gold is None else gold_of(self.gold),
        )
        logger.info(
            "%s: %d steps of %d answers to %d prompts; ranks: %d",
            params.algorithm,
            ppo.steps,
            params.batch_size,
            len(ppo.training),
            ppo.processes,
        )
        if ppo.cut_prompts:
            logger.warning(
                "ppo: %d of %d prompts above max_prompt_length=%d, cut on the left",
                ppo.cut_prompts,
                len(prompts),
                params.max_prompt_length,
            )
        progress = ppo.run()
        metrics = {
            "steps": progress.step,
            "prompts": len(ppo.training),
            "held_out_prompts": len(ppo.held_out),
            "cut_prompts": ppo.cut_prompts,
            "empty_answers": _total(progress, "empty_answers"),
            "batches_of_equal_answers": _total(progress, "equal_answers"),
        }
        return progress, [prompts[place] for place in ppo.held_out], metrics

    def _algorithm(self) -> type[Ppo]:
        if self.params.algorithm == "rloo":
            from ser_kedro.policy.rloo import Rloo

            return Rloo
        from ser_kedro.policy.ppo import Ppo

        return Ppo

    def _save(self, weights: Path, folder: Path) -> None:
        """Merge trained weights into a fresh copy of the start, and save that.

        A fresh one, since adding and taking away adapters rounds the weights.
        """
        from safetensors.torch import load_file
        from transformers import AutoTokenizer

        from ser_kedro.policy.actor_critic import ActorCritic

        start = self.sft_model.location
        actor = ActorCritic.load(start, self.params, reference=False)
        actor.load_trainable(load_file(weights))
        actor.merged().save_pretrained(folder)
        AutoTokenizer.from_pretrained(start).save_pretrained(folder)

    def _output(self, name: str, metrics: dict[str, Any]) -> ModelRef:
        # One job, two models: its fingerprint alone would not tell them apart.
        identity = f"{self.fingerprint} {name}"
        return ModelRef(
            kind="language_model",
            path=name,
            fingerprint=hashlib.sha256(identity.encode()).hexdigest()[:32],
            base_model=self.sft_model.base_model,
            metrics=metrics,
        )


def gold_of(world: WorldParams) -> RewardFunction:
    """Return the demo world's gold reward as a function over dialogues and texts."""

    def gold(prompts: Sequence[Messages], responses: Sequence[str]) -> list[float]:
        turns = [[Message(**turn) for turn in prompt] for prompt in prompts]
        rewards: list[float] = gold_rewards(world, turns, responses).tolist()
        return rewards

    return gold


def _samples(
    prompts: list[Messages], before: HeldOut | None, after: HeldOut | None
) -> Iterator[dict[str, Any]]:
    if before is None or after is None:
        return
    columns = (prompts, before.texts, after.texts, before.rewards, after.rewards)
    for row in zip(*columns, strict=True):
        yield dict(zip(SAMPLES.names, row, strict=True))


def _figures(held_out: HeldOut | None) -> dict[str, Any]:
    if held_out is None:
        return {}
    return {
        "step": held_out.step,
        "held_out_reward": held_out.reward,
        "held_out_gold": held_out.gold,
        "held_out_kl": held_out.kl,
    }


def _total(progress: Progress, name: str) -> int:
    return int(sum(row.get(name, 0) for row in progress.history))
