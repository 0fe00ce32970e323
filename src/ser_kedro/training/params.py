"""Parameters of training, for language models and reward models alike."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ser_kedro.models.params import (
    VIEWS,
    LoraParams,
    Params,
    Precision,
    Scoring,
    SftWhen,
    View,
)


class TrainingParams(Params):
    """What any training here needs.

    Attributes:
        learning_rate: Peak learning rate of AdamW.
        epochs: Passes over the training rows.
        batch_size: Rows of an optimiser step (for a reward model: pairs), over all
            devices.
        scheduler: Learning-rate schedule, by its name in transformers.
        warmup_steps: Steps of linear warm-up.
        weight_decay: Decoupled weight decay.
        max_length: Tokens of a row, prompt and response together.
        overlong: What happens to a row above ``max_length``: ``truncate`` the prompt
            on the left, or ``drop`` the row. Both are counted.
        precision: ``fp32``, ``bf16``, or ``auto``: bf16 on a GPU that has it, and on a
            CPU where a timed trial finds it faster; labelling is tried by itself.
        gradient_checkpointing: Recompute activations to save memory.
        lora: Train adapters; ``None`` trains every weight.
        keep_adapter: Keep the adapters in a folder ``adapter`` beside the model, into
            which they are merged in any case.
        save_steps: Optimiser steps between two checkpoints to resume from.
    """

    learning_rate: float = Field(gt=0)
    epochs: float = Field(gt=0)
    batch_size: int = Field(ge=1)
    scheduler: Literal["linear", "cosine", "constant", "constant_with_warmup"]
    warmup_steps: int = Field(0, ge=0)
    weight_decay: float = Field(0.0, ge=0)
    max_length: int = Field(ge=8)
    overlong: Literal["truncate", "drop"] = "truncate"
    precision: Precision = "auto"
    gradient_checkpointing: bool = False
    lora: LoraParams | None = None
    keep_adapter: bool = False
    save_steps: int = Field(200, ge=1)


class SftParams(TrainingParams):
    """Supervised fine-tuning on the SFT part.

    Attributes:
        when: ``auto`` trains a base model and a model from scratch, and passes on an
            instruct model, an encoder and a reward model as they are; ``always`` and
            ``never`` decide for any language model.
        target: ``chosen`` trains on the preferred responses, as the paper does, and
            spends the label of every SFT pair; ``both`` trains on both responses and
            spends none.
        pool: ``text`` trains on the responses of the pool too, which has no labels;
            ``steps`` is its control, as many steps on the SFT part alone; ``none``.
        micro_batch_size: Rows of one forward pass; gradients accumulate up to
            ``batch_size``. ``None``: as many as the memory holds. Halved where it does
            not hold them.
    """

    when: SftWhen = "auto"
    target: Literal["chosen", "both"] = "both"
    pool: Literal["none", "text", "steps"] = "none"
    micro_batch_size: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _batches_divide(self) -> SftParams:
        if self.micro_batch_size and self.batch_size % self.micro_batch_size:
            raise ValueError("batch_size must be a multiple of micro_batch_size")
        return self

    @model_validator(mode="after")
    def _reads_its_pool(self) -> SftParams:
        if self.when == "never" and self.pool != "none":
            raise ValueError(
                f"pool={self.pool} is for SFT, which when=never skips; leave one of"
                " the two out"
            )
        return self

    @property
    def choices(self) -> tuple[str, ...]:
        """What was asked of SFT beside its sizes, as the command line says it."""
        default = SftParams.model_fields
        return tuple(
            f"sft.{name}={getattr(self, name)}"
            for name in ("target", "pool")
            if getattr(self, name) != default[name].default
        )


class RewardParams(TrainingParams):
    """Training and use of a reward model.

    Attributes:
        loss: ``logistic`` is Bradley-Terry's, ``-log σ(r_chosen - r_rejected)``, as in
            the authors' code; ``hinge`` is the paper's
            ``max(0, margin - (r_chosen - r_rejected))``.
        margin: The hinge loss's margin, in units of reward.
        use_margins: Ask for the margin that the data say of a pair, in units of reward,
            as well.
        lm_weight: Share of a language model's loss on both responses in the loss, in
            [0, 1); the pairwise one has the rest (GRM, Yang et al., 2024, arXiv
            2406.10216, takes 0.01). The model must start from a language model, and be
            trained below its head.
        lm_pool: ``text`` has the language model's loss on the responses of the pool
            too, which has no labels; ``steps`` is its control, as many steps without
            the pool; ``none``.
        pretrain: Train, before the labels, on what needs none: ``answers`` tells the
            answers of the pool's prompts from answers to other prompts (RBS, arXiv
            2603.02225); ``steps`` is its control, on as many rows of what the training
            itself learns from; ``none``. A model that is a reward model already goes
            without.
        pretrain_epochs: Passes over these answers.
        fit_temperature: Fit the scale of the rewards on the validation pairs, so that
            σ(difference) is a probability; ``False`` leaves it 1.
        packing: Put the two responses of a pair behind one prompt, where that is
            exact.
        max_tokens_per_microbatch: Padded tokens of one forward pass in training;
            gradients accumulate up to ``batch_size`` pairs. ``auto``: as many as the
            memory holds. Halved where it does not hold them.
        score_tokens: Padded tokens of one scoring batch; halved in the same way.
        views: As of ``Scoring``; read where the model, or a committee's, is frozen.
        trainable: ``full``: every weight; ``lora``: adapters and the head; ``head``:
            the head alone, on features that the frozen model gives once. Where it is
            not given, it is ``lora`` if ``lora`` is, else ``full``.
        head_width: Under ``trainable: head``, units of a hidden layer; ``None``: the
            head stays the model's own linear one.
        dropout: Of the features that the head reads, in training.
        voters: Models that are trained side by side, differing in their seeds. The
            first is the one that is kept; on the pool, a pair on whose better
            response they do not agree counts as a tie.
    """

    loss: Literal["logistic", "hinge"] = "logistic"
    margin: float = Field(1.0, gt=0)
    use_margins: bool = False
    lm_weight: float = Field(0.0, ge=0, lt=1)
    lm_pool: Literal["none", "text", "steps"] = "none"
    pretrain: Literal["none", "answers", "steps"] = "none"
    pretrain_epochs: float = Field(1.0, gt=0)
    fit_temperature: bool = True
    packing: bool = True
    max_tokens_per_microbatch: Annotated[int, Field(ge=8)] | Literal["auto"] = "auto"
    score_tokens: int = Field(16384, ge=8)
    views: tuple[View, ...] = VIEWS
    trainable: Literal["full", "lora", "head"] = "full"
    head_width: int | None = Field(None, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)
    voters: int = Field(1, ge=1)

    @property
    def scoring(self) -> Scoring:
        """Return how a model that was trained so is applied."""
        return Scoring(**{name: getattr(self, name) for name in Scoring.model_fields})

    @model_validator(mode="after")
    def _trains_below_the_head(self) -> RewardParams:
        if self.lm_weight and self.trainable == "head":
            raise ValueError(
                f"lm_weight={self.lm_weight:g} trains what lies below the head, which"
                " trainable=head freezes; leave one of the two out"
            )
        return self

    @model_validator(mode="after")
    def _reads_its_pool(self) -> RewardParams:
        if self.lm_pool != "none" and not self.lm_weight:
            raise ValueError(
                f"lm_pool={self.lm_pool} has no effect without lm_weight; give"
                " lm_weight=0.01, or leave lm_pool at none"
            )
        return self

    @model_validator(mode="after")
    def _begins_with_a_language_model(self) -> RewardParams:
        if self.lm_weight and self.pretrain != "none":
            raise ValueError(
                f"lm_weight={self.lm_weight:g} starts from a language model, and"
                f" pretrain={self.pretrain} makes a reward model of it before; leave"
                " one of the two out"
            )
        return self

    @model_validator(mode="before")
    @classmethod
    def _one_switch(cls, given: Any) -> Any:
        """Let ``trainable`` alone decide; adapters' sizes of others count nothing."""
        if not isinstance(given, dict):
            return given
        adapters = given.get("lora") is not None
        trainable = given.get("trainable") or ("lora" if adapters else "full")
        if trainable == "lora" and not adapters:
            raise ValueError("trainable: lora needs lora, the sizes of the adapters")
        kept = given.get("lora") if trainable == "lora" else None
        return {**given, "trainable": trainable, "lora": kept}
