"""Parameters of PPO; the defaults are those of the paper's scripts (METHOD.md §6)."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ser_kedro.models.params import LoraParams

PAPER_LORA = LoraParams(r=16, alpha=32, dropout=0.05)


class PpoParams(BaseModel):
    """How a policy is trained against a reward model.

    Counts of answers (``batch_size``, ``mini_batch_size``) are of all processes
    together, so that the same parameters mean the same training on any machine.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    algorithm: Literal["ppo", "rloo"] = Field(
        "ppo", description="how the policy learns"
    )
    answers_per_prompt: int = Field(
        4, ge=2, description="of one rollout; rloo only, ppo writes one"
    )

    # How long.
    epochs: float = Field(
        4.0, gt=0, description="answers to each prompt; for ppo passes over the prompts"
    )
    steps: int | None = Field(
        None, ge=1, description="rollouts; instead of epochs where it is set"
    )
    batch_size: int = Field(8, ge=1, description="answers of one rollout")
    ppo_epochs: int = Field(4, ge=1, description="passes over one rollout")
    mini_batch_size: int = Field(1, ge=1, description="answers of one optimiser step")
    micro_batch_size: int | None = Field(
        None,
        ge=1,
        description="answers of one forward pass with gradients, each process for"
        " itself; null: the mini-batch at once",
    )
    rollout_batch_size: int | None = Field(
        None,
        ge=1,
        description="answers written and read at once without gradients, each process"
        " for itself; null: all of a rollout",
    )

    # The optimiser.
    learning_rate: float = Field(1.4e-5, gt=0, description="constant")
    value_learning_rate: float | None = Field(
        None, gt=0, description="of the value head; null: learning_rate"
    )
    optimizer: Literal["adafactor", "adamw"] = Field(
        "adafactor",
        description="adafactor keeps no full second moment: less memory; both without"
        " weight decay",
    )
    max_grad_norm: float = Field(
        1.0, gt=0, description="policy and head are clipped to it, each"
    )

    # The objective.
    clip_range: float = Field(0.2, gt=0, description="of the ratio, around 1")
    value_clip_range: float = Field(
        0.2, gt=0, description="of a value, around the one of the rollout"
    )
    value_coefficient: float = Field(
        0.1, ge=0, description="weight of the value loss, which trains the head alone"
    )
    gamma: float = Field(1.0, ge=0, le=1, description="discount a token")
    lam: float = Field(0.95, ge=0, le=1, description="λ of GAE")
    whiten_advantages: bool = Field(
        True, description="mean 0 and variance 1 over the tokens of a rollout"
    )

    # The distance to the reference.
    kl_coefficient: float = Field(0.2, ge=0, description="at first; in reward a nat")
    adaptive_kl: bool = Field(True, description="steer the coefficient to kl_target")
    kl_target: float = Field(6.0, gt=0, description="nats a sequence")
    kl_horizon: float = Field(
        10_000, gt=0, description="answers in which the coefficient may move e-fold"
    )
    early_stop_kl: float | None = Field(
        None,
        gt=0,
        description="leave a rollout once ½ mean (log ratio)² a token is above 1.5"
        " times this (what the paper calls its target KL of 0.1); null: never",
    )

    # Sampling.
    max_prompt_length: int = Field(
        256, ge=1, description="tokens; longer prompts are cut on the left"
    )
    max_new_tokens: int = Field(256, ge=1, description="tokens of an answer")
    temperature: float = Field(1.0, gt=0, description="of the policy, everywhere")
    top_k: int = Field(
        0,
        ge=0,
        description="0: all tokens. Otherwise the log-probabilities, which are those"
        " of all tokens, are not those of the sampling",
    )
    top_p: float = Field(1.0, gt=0, le=1, description="1: all tokens; see top_k")

    # The reward.
    reward: Literal["sigmoid", "raw", "normalized"] = Field(
        "sigmoid",
        description="σ of the calibrated reward, the reward as it is, or less its"
        " running mean and over its running deviation",
    )
    missing_eos_penalty: float = Field(
        1.0, ge=0, description="taken from the reward of an answer that does not end"
    )

    # The network.
    lora: LoraParams | None = Field(
        PAPER_LORA,
        description="adapters on one copy of the weights, which is the reference too;"
        " null: every weight is trained, and the reference is a second copy",
    )
    dropout: bool = Field(
        False,
        description="keep dropout on in updates, as the paper's trainer did; off, the"
        " ratio starts at exactly 1",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="auto is the faster one"
    )
    gradient_checkpointing: bool = Field(
        False, description="recompute activations to save memory"
    )

    # What is kept.
    save_steps: int = Field(20, ge=1, description="rollouts between two checkpoints")
    eval_steps: int = Field(10, ge=1, description="rollouts between two evaluations")
    eval_prompts: int = Field(
        32, ge=0, description="prompts held out of training to evaluate on; 0: none"
    )
    kl_bound: float = Field(
        12.0,
        gt=0,
        description="nats a sequence on held-out prompts, above which a policy is not"
        " the best, whatever its reward",
    )

    @model_validator(mode="after")
    def _batches_divide(self) -> PpoParams:
        if self.batch_size % self.mini_batch_size:
            raise ValueError("batch_size must be a multiple of mini_batch_size")
        if self.micro_batch_size and self.mini_batch_size % self.micro_batch_size:
            raise ValueError("mini_batch_size must be a multiple of micro_batch_size")
        if self.algorithm == "rloo" and self.batch_size % self.answers_per_prompt:
            raise ValueError("batch_size must be a multiple of answers_per_prompt")
        return self
