"""What a later stage would refuse in a model, found before the first one starts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers.models.auto.modeling_auto import (
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
)

from ser_kedro.errors import ModelError
from ser_kedro.models.committee import VIEWS
from ser_kedro.models.encode import tokens_above, too_large
from ser_kedro.models.gguf_place import names_gguf
from ser_kedro.models.last_layers import check_last_layers
from ser_kedro.models.params import ADAPTER, ModelParams, SftWhen
from ser_kedro.models.reward_model import DEEP_HEAD, check_window
from ser_kedro.models.scratch import scratch_config
from ser_kedro.models.source import (
    can_generate,
    is_classifier,
    keeps_cache,
    kind_of,
    load_config,
    load_tokenizer,
)
from ser_kedro.models.starting_point import check_when
from ser_kedro.store.json_io import read_json

_HEADS = {"score", "classifier"}
_NAMES = {"encoder": "an encoder", "reward_model": "a reward model"}


def check_model(
    model: ModelParams,
    lengths: Mapping[str, int],
    *,
    sft_when: SftWhen = "auto",
    last_layers: Mapping[str, int] | None = None,
    policy: bool = False,
    new_head: bool = False,
    language_loss: bool = False,
) -> None:
    """Refuse a model that some stage could not use, in one line.

    Configuration and tokenizer are read, and no weight. A hub that cannot be reached is
    no reason to refuse: what was trained from its model may be in the store already.

    Args:
        model: Which model.
        lengths: Tokens of a row, by the section of the parameters that says so; a
            model from scratch has as many positions as ``sft`` says.
        sft_when: When SFT trains it.
        last_layers: Layers from the end that get adapters, by the section that says
            so.
        policy: A policy is trained, so the model must generate.
        new_head: Rewards are given by a new head with a hidden layer.
        language_loss: Reward models are trained with the loss of a language model.

    Raises:
        ModelError: If it cannot be loaded, or some stage could not use it.
    """
    model.read_template()
    adapted = last_layers or {}
    if model.scratch is not None:
        check_when(model, "language_model", sft_when)
        size, positions = model.scratch.vocab_size, lengths.get("sft")
        if positions is not None:
            made = scratch_config(model.scratch, size, positions)
            for section, length in lengths.items():
                check_window(made, length, section)
        for section, wanted in adapted.items():
            check_last_layers(model.scratch.layers, wanted, section)
        return
    try:
        config, tokenizer = load_config(model), load_tokenizer(model)
    except ModelError:
        if Path(model.name).is_dir() or names_gguf(model.name):
            raise
        return
    _check_class(model, config, policy)
    _check_head(model)
    check_when(model, kind_of(model, config), sft_when)
    kind = kind_of(model, config)
    if new_head and kind == "reward_model":
        raise ModelError(
            f"reward.head_width: {model.name} is a reward model, whose linear head"
            " would be lost; leave head_width null"
        )
    tuned = kind == "language_model"
    if language_loss and not tuned:
        raise ModelError(
            f"reward.lm_weight: {model.name} is {_NAMES[kind]}, which has no"
            " language-model head; give a language model, or leave lm_weight at 0"
        )
    for section, length in lengths.items():
        if section != "sft" or tuned:
            check_window(config, length, section)
    for section, wanted in adapted.items():
        if section != "sft" or tuned:
            layers = config.get_text_config().num_hidden_layers
            check_last_layers(layers, wanted, section)
    _check_vocabulary(model, config, tokenizer)


def _check_class(model: ModelParams, config: Any, policy: bool) -> None:
    kind, name = kind_of(model, config), config.model_type
    if name not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES:
        raise ModelError(
            f"model={model.name}: transformers has no sequence-classification class"
            f" for models of type {name}, so no reward model can be made of it; give"
            " another model"
        )
    if kind == "language_model" and not can_generate(config):
        raise ModelError(
            f"model={model.name}: models of type {name} are neither language models"
            " nor encoders in transformers; give one that is"
        )
    if kind == "language_model" and is_classifier(config) and not model.adapter:
        raise ModelError(
            f"model={model.name}: a classifier with {config.num_labels} labels, neither"
            " a language model nor a reward model (which has one label); give one"
        )
    if policy and kind != "language_model":
        raise ModelError(
            f"model={model.name}: {_NAMES[kind]} generates no text, so no policy can be"
            " trained from it; give a language model, or run --pipelines self_evolve"
        )
    if policy and not keeps_cache(config):
        raise ModelError(
            f"model={model.name}: models of type {name} keep no keys and values of what"
            " they have read, so no policy can be sampled from it; give another model"
        )


def _check_vocabulary(model: ModelParams, config: Any, tokenizer: Any) -> None:
    text = config.get_text_config()
    rows, pad = getattr(text, "vocab_size", None), getattr(text, "pad_token_id", None)
    if rows is None:
        return
    if unknown := tokens_above(tokenizer, rows):
        raise ModelError(too_large(model.name, rows, unknown))
    if pad is not None and pad >= rows:
        raise ModelError(
            f"model={model.name}: pad_token_id={pad} is outside of its vocabulary of"
            f" {rows} tokens, so it cannot be loaded; set it to null in config.json"
        )


def _check_head(model: ModelParams) -> None:
    """Refuse a trained head that would be lost."""
    if (Path(model.name) / VIEWS).is_file():
        raise ModelError(
            f"model={model.name}: a committee of views ({VIEWS}), from which no"
            " training can go on; give the model that it stands on"
        )
    if (Path(model.name) / DEEP_HEAD).is_file():
        raise ModelError(
            f"model={model.name}: a reward model whose head has a hidden layer"
            f" ({DEEP_HEAD}), from which no training can go on; give one with a linear"
            " head"
        )
    if model.adapter is None:
        return
    settings = read_json(model.adapter / ADAPTER)
    if settings.get("task_type") == "SEQ_CLS" and not _HEADS & set(
        settings.get("modules_to_save") or []
    ):
        raise ModelError(
            f"model={model.name}: an adapter of a reward model without its head; save"
            ' it with modules_to_save=["score"]'
        )
