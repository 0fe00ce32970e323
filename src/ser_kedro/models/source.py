"""Models as people bring them: language models, encoders, rewards, adapters."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from inspect import signature
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GenerationConfig,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
)
from trl.trainer.reward_trainer import suppress_seqcls_warning

from ser_kedro.errors import ModelError
from ser_kedro.models.gguf_place import names_gguf
from ser_kedro.models.params import ADAPTER, Kind, ModelParams, SftWhen
from ser_kedro.models.reward_model import check_window, from_pretrained, is_encoder
from ser_kedro.models.scratch import random_model, train_tokenizer
from ser_kedro.models.starting_point import (
    StartingPoint,
    judge_template,
    starting_point,
)
from ser_kedro.models.template import fix_date
from ser_kedro.models.zero3 import is_zero3_enabled
from ser_kedro.store.json_io import read_json
from ser_kedro.store.references import TableRef
from ser_kedro.store.tables import read_table

logger = logging.getLogger(__name__)

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


def load_start(
    start: ModelParams,
    pairs: TableRef,
    max_length: int,
    seed: int,
    section: str = "sft",
) -> tuple[Any, Any, Kind]:
    """Load what was given, in fp32, or make it.

    Args:
        start: Which model.
        pairs: Labelled pairs, of which a new vocabulary is learnt.
        max_length: Positions of a new model, and tokens of a row.
        seed: Draws new weights.
        section: Of the parameters, which says how long a row is.

    Returns:
        The model, its tokenizer with its template pinned, and what kind it is.

    Raises:
        ModelError: If it cannot be loaded, or reads less than a row.
    """
    tokenizer = load_tokenizer(start, pairs)
    if start.scratch is not None:
        model: Any = random_model(start.scratch, tokenizer, max_length, seed)
        return model, tokenizer, "language_model"
    config = load_config(start)
    kind = kind_of(start, config)
    if kind == "encoder" and is_classifier(config):
        logger.warning(
            "%s: a classifier with %d labels, not a reward model (which has one): its"
            " head is left out",
            start.name,
            config.num_labels,
        )
    if kind == "language_model":
        check_window(config, max_length, section)
    options: dict[str, Any] = {"dtype": torch.float32}
    if kind == "reward_model":
        config.num_labels = 1
        config.problem_type = "regression"
        options["config"] = config
    loader = {
        "language_model": AutoModelForCausalLM,
        "encoder": AutoModel,
        "reward_model": AutoModelForSequenceClassification,
    }[kind]
    whole = start.whole
    with suppress_seqcls_warning():
        model = from_pretrained(loader, whole.name, revision=whole.revision, **options)
    return _merged(model, start), tokenizer, kind


def load_config(start: ModelParams) -> Any:
    """Return the configuration of a model, or of an adapter's base.

    Raises:
        ModelError: If it cannot be loaded.
    """
    whole = start.whole
    try:
        return from_pretrained(AutoConfig, whole.name, revision=whole.revision)
    except ModelError as error:
        if start.adapter is None:
            raise
        raise ModelError(
            f"model={start.name}: an adapter of {whole.name}, which cannot be loaded"
            f" ({error.__cause__}); put the base model there, or give its place as"
            f" base_model_name_or_path in {ADAPTER}"
        ) from error


def load_tokenizer(start: ModelParams, pairs: TableRef | None = None) -> Any:
    """Return a model's tokenizer with its chat template and the date pinned.

    Args:
        start: Which model.
        pairs: Labelled pairs, of which a new vocabulary is learnt.

    Raises:
        ModelError: If it cannot be loaded, or the template's file cannot be read.
    """
    if start.scratch is not None:
        if pairs is None:
            raise ModelError("a model from scratch has no tokenizer without pairs")
        tokenizer: Any = train_tokenizer(_texts(pairs), start.scratch.vocab_size)
    else:
        own = start.adapter
        named = own is not None and any((own / n).is_file() for n in _TOKENIZER_FILES)
        source = start if named else start.whole
        tokenizer = from_pretrained(
            AutoTokenizer, source.name, revision=source.revision
        )
    template = start.read_template() or tokenizer.chat_template
    if isinstance(template, dict):
        day = start.template_date
        template = {name: fix_date(text, day) for name, text in template.items()}
    elif template:
        template = fix_date(template, start.template_date)
    tokenizer.chat_template = template
    return tokenizer


def kind_of(start: ModelParams, config: Any) -> Kind:
    """Say what a model is; one with a single label is a reward model."""
    if start.adapter is not None:
        task = read_json(start.adapter / ADAPTER).get("task_type")
        if task == "SEQ_CLS":
            return "reward_model"
    elif is_classifier(config) and config.num_labels == 1:
        return "reward_model"
    return "encoder" if is_encoder(config) else "language_model"


def start_of(
    start: ModelParams, kind: Kind, when: SftWhen, tokenizer: Any = None
) -> StartingPoint:
    """Decide whether SFT trains a model; no weight is read.

    Args:
        start: Which model.
        kind: What it is.
        when: What the parameters say.
        tokenizer: Its tokenizer; ``None`` to load it where it is needed.

    Raises:
        ModelError: If ``when`` asks for what cannot be.
    """

    def by_template() -> StartingPoint:
        try:
            known = tokenizer or load_tokenizer(start)
        except ModelError:
            return StartingPoint(True, "its tokenizer cannot be read yet")
        return judge_template(known, _ends(start, known))

    return starting_point(start, kind, when, by_template)


def _ends(start: ModelParams, tokenizer: Any) -> set[str]:
    """Return the texts of the tokens at which a model stops."""
    ids = {tokenizer.eos_token_id}
    whole = start.whole
    if not names_gguf(whole.name):
        try:
            settings = GenerationConfig.from_pretrained(
                whole.name, revision=whole.revision
            )
        except (OSError, ValueError):
            pass  # there need not be one
        else:
            ids.update(np.atleast_1d(settings.eos_token_id).tolist())
    return {str(tokenizer.convert_ids_to_tokens(i)) for i in ids if i is not None}


def is_classifier(config: Any) -> bool:
    """Say whether a model was saved with a head that classifies texts."""
    named = config.architectures or []
    return any(name.endswith("ForSequenceClassification") for name in named)


def can_generate(config: Any) -> bool:
    """Say whether transformers has a language model of this type."""
    return config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES


def keeps_cache(config: Any) -> bool:
    """Say whether language models of this type keep keys and values of what they read.

    Without them, answers cannot be sampled.
    """
    kind = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    return "past_key_values" in signature(kind.forward).parameters


def _merged(model: Any, start: ModelParams) -> Any:
    """Merge the adapter that was given, if one was, into its base."""
    if start.adapter is None:
        return model
    if is_zero3_enabled():
        raise ModelError(
            f"model={start.name}: an adapter cannot be merged under ZeRO 3; merge it"
            " first (PEFT's merge_and_unload) and give the merged model"
        )
    try:
        whole = PeftModel.from_pretrained(model, start.adapter).merge_and_unload()
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"model={start.name}: the adapter does not fit {start.whole.name}"
            f" ({reason}); give the base model that it was trained on"
        ) from error
    return whole.requires_grad_(True)  # PEFT has frozen the base


def _texts(pairs: TableRef) -> Iterator[str]:
    # Both responses, whatever the target: a vocabulary learns no preference.
    for batch in read_table(pairs).to_batches(1024):
        for row in batch.to_pylist():
            yield from (turn["content"] for turn in row["prompt"])
            yield from (row["chosen"], row["rejected"], "Question: ", "Answer: ")
