"""Load and save reward models as ordinary Hugging Face folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES
from trl.trainer.reward_trainer import suppress_seqcls_warning

from ser_kedro.errors import ModelError
from ser_kedro.models.encode import ensure_pad_token
from ser_kedro.models.gguf_load import load_gguf
from ser_kedro.models.gguf_place import names_gguf
from ser_kedro.models.zero3 import init_new_weights, is_zero3_enabled

# A head that transformers' own class does not have.
DEEP_HEAD = "deep_head.safetensors"


def is_encoder(config: PretrainedConfig) -> bool:
    """Say whether a model reads in both directions (BERT-like): it cannot generate."""
    named = config.architectures or []
    if any(name.endswith("ForCausalLM") for name in named):
        return False
    return config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES


def from_pretrained(loader: Any, name: str | Path, **options: Any) -> Any:
    """Call ``loader.from_pretrained`` and answer a failure with one line.

    Code that lies beside a model is never run.

    Args:
        loader: A class of transformers.
        name: A hub id, a folder or a GGUF file.
        **options: For ``from_pretrained``.

    Raises:
        ModelError: If the model, tokenizer or configuration cannot be loaded.
    """
    if names_gguf(name):
        return load_gguf(loader, name, **options)
    try:
        return loader.from_pretrained(name, trust_remote_code=False, **options)
    except (OSError, ValueError, ImportError, TypeError) as error:
        if "trust_remote_code" in str(error):
            raise ModelError(
                f"model={name}: brings code of its own, which is never run; give a"
                " model of an architecture that transformers knows"
            ) from error
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"model={name}: cannot be loaded ({reason}); give a hub id that this"
            " machine can reach, a GGUF file, or the path of a folder with the model"
        ) from error


def check_window(config: PretrainedConfig, max_length: int, section: str) -> None:
    """Refuse rows that are longer than a model can read.

    Args:
        config: The model's configuration.
        max_length: Tokens of a row.
        section: The section of the parameters that says so.

    Raises:
        ModelError: If the model has fewer positions.
    """
    window = window_of(config, max_length)
    if window is not None and max_length > window:
        said = f"{section}.max_length={max_length}"
        todo = f"give --params {section}.max_length={window}"
        if section in ("pool", "ppo"):
            parts = (
                f"{section}.{part}" for part in ("max_prompt_length", "max_new_tokens")
            )
            said = f"{' + '.join(parts)} = {max_length}"
            todo = "lower one of them"
        raise ModelError(f"{said}: the model reads {window} tokens at most; {todo}")


def window_of(config: PretrainedConfig, wanted: int) -> int | None:
    """Return how many tokens a model can read, as far as its configuration says.

    RoBERTa and its kind number positions from their padding token on, so that the
    first ones of their table are never used.

    Args:
        config: The model's configuration.
        wanted: Tokens; where that many fit in any case, the table is not looked at.
    """
    window: int | None = getattr(config, "max_position_embeddings", None)
    first = (getattr(config, "pad_token_id", None) or 0) + 1
    padding = config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    if window is None or wanted <= window - first or not padding:
        return window
    with torch.device("meta"):
        model: Any = AutoModel.from_config(config)
    padded = any(
        name.endswith("position_embeddings")
        and getattr(module, "padding_idx", None) is not None
        for name, module in model.named_modules()
    )
    return window - first if padded else window


def load_reward_model(
    folder: Path, seed: int
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model for rewards; from a language model the head starts random.

    Args:
        folder: A Hugging Face folder: a language model, an encoder or a reward model.
        seed: Draws the head's weights where it has none.

    Returns:
        The model in fp32, in evaluation mode, and its tokenizer.
    """
    torch.manual_seed(seed)
    tokenizer = from_pretrained(AutoTokenizer, folder)
    config = from_pretrained(AutoConfig, folder)
    config.num_labels = 1
    # "regression", so that transformers' pipeline() applies no sigmoid of its own.
    config.problem_type = "regression"
    with suppress_seqcls_warning():
        model, found = from_pretrained(
            AutoModelForSequenceClassification,
            folder,
            config=config,
            dtype=torch.float32,
            output_loading_info=True,
        )
    if is_zero3_enabled():
        init_new_weights(model, found["missing_keys"], seed)
    ensure_pad_token(tokenizer, model)
    attach_deep_head(model, folder)
    return model.eval(), tokenizer


def head_name(model: PreTrainedModel) -> str:
    """Return the name of the last linear layer, which gives the reward."""
    linear = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module.out_features == 1
    ]
    return linear[-1]


def deep_head(features: int, width: int) -> torch.nn.Sequential:
    """Return a head with one hidden layer of ``width`` units."""
    return torch.nn.Sequential(
        torch.nn.Linear(features, width),
        torch.nn.Tanh(),
        torch.nn.Linear(width, 1, bias=False),
    )


def attach_deep_head(model: PreTrainedModel, folder: Path) -> None:
    """Put in the head with a hidden layer that lies beside the weights, if one does."""
    file = folder / DEEP_HEAD
    if file.is_file():
        weights = load_file(file)
        width, features = weights["0.weight"].shape
        head = deep_head(features, width)
        head.load_state_dict(weights)
        model.set_submodule(head_name(model), head)


def drop_features(model: PreTrainedModel, rate: float) -> None:
    """Let training drop a part of the features that the head reads."""

    def drop(head: torch.nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        kept = torch.nn.functional.dropout(inputs[0], rate, head.training)
        return (kept, *inputs[1:])

    if rate:
        model.get_submodule(head_name(model)).register_forward_pre_hook(drop)
