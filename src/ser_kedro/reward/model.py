"""Load and save reward models as ordinary Hugging Face folders."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES
from trl.trainer.reward_trainer import suppress_seqcls_warning

from ser_kedro.errors import ModelError
from ser_kedro.reward.encode import ensure_pad_token

if TYPE_CHECKING:
    from ser_kedro.reward.encode import EncodedPair

# What a save and a load may change: nothing in fp32, rounding where weights are
# stored with fewer bits than they were trained with.
_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}
# A seed that no training has: a lost head must not be drawn again as it was.
_RELOAD_SEED = 2**63 - 25


def is_encoder(config: PretrainedConfig) -> bool:
    """Say whether a model reads in both directions (BERT-like): it cannot generate."""
    named = config.architectures or []
    if any(name.endswith("ForCausalLM") for name in named):
        return False
    return config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES


def from_pretrained(loader: Any, name: str | Path, **options: Any) -> Any:
    """Call ``loader.from_pretrained`` and answer a failure with one line.

    Raises:
        ModelError: If the model, tokenizer or configuration cannot be loaded.
    """
    try:
        return loader.from_pretrained(name, **options)
    except (OSError, ValueError, ImportError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"model={name}: cannot be loaded ({reason}); give a hub id that this"
            " machine can reach, or the path of a folder with the model"
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
    window = getattr(config, "max_position_embeddings", None)
    if window is not None and max_length > window:
        raise ModelError(
            f"{section}.max_length={max_length}: the model reads {window} tokens at"
            f" most; give --params {section}.max_length={window}"
        )


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
        model = from_pretrained(
            AutoModelForSequenceClassification,
            folder,
            config=config,
            dtype=torch.float32,
        )
    ensure_pad_token(tokenizer, model)
    return model.eval(), tokenizer


def save_checked(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    sample: list[EncodedPair],
) -> float:
    """Save a reward model, load it again and compare the rewards of a sample.

    Args:
        model: The trained model, without adapters.
        tokenizer: Its tokenizer.
        folder: Where to.
        sample: A few encoded pairs, at least one.

    Returns:
        The largest absolute difference of a reward, before and after.

    Raises:
        ModelError: If what was saved scores otherwise than what was trained (a head
            that was not saved, weights left out).
    """
    from ser_kedro.reward.score import score_encoded

    pad = tokenizer.pad_token_id
    before = torch.tensor(score_encoded(model, sample, pad))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    reloaded, _ = load_reward_model(folder, seed=_RELOAD_SEED)
    after = torch.tensor(score_encoded(reloaded.to(model.device), sample, pad))
    if bool(torch.isfinite(before).all()):
        gap = float((before - after).abs().max())
    else:  # a collapsed model is saved as it is; the loop will judge it
        gap = 0.0
    limit = _TOLERANCE[model.dtype] * max(1.0, float(before.abs().max()))
    if not gap <= limit:
        raise ModelError(
            f"{folder}: the saved model scores {gap:.2g} away from the trained one;"
            " part of it was not saved (with LoRA: is the head among the trained"
            " modules?)"
        )
    return gap
