"""Load a GGUF file as the plain model that it was made of."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tokenizers import Tokenizer
from transformers import (
    AutoConfig,
    AutoTokenizer,
    GgufConfig,
    PreTrainedTokenizerFast,
)

from ser_kedro.errors import ModelError
from ser_kedro.models.gguf_place import gguf_file
from ser_kedro.models.zero3 import is_zero3_enabled


def load_gguf(loader: Any, name: str | Path, **options: Any) -> Any:
    """Load configuration, tokenizer or model of a GGUF file; weights are dequantised.

    Args:
        loader: A class of transformers with ``from_pretrained``.
        name: The model's name, as ``gguf_file`` takes it.
        **options: For ``from_pretrained``.

    Returns:
        What ``loader`` makes; a model is saved as any other one.

    Raises:
        ModelError: If the file is not there, is broken or of an architecture that
            transformers does not read, or lacks weights.
    """
    file = gguf_file(name).absolute()
    weights = loader not in (AutoConfig, AutoTokenizer)
    if weights and is_zero3_enabled():
        raise ModelError(
            f"model={name}: a GGUF file cannot be loaded under ZeRO 3; load it with"
            " transformers once, save it to a folder and give that"
        )
    if weights:
        # Without this, weights stay in blocks where a kernel for them is installed.
        quantized = GgufConfig(dequantize=True)
        options |= {"quantization_config": quantized, "output_loading_info": True}
    loaded = _read_alone(loader, name, file, options)
    if weights:
        loaded, found = loaded
        _check_whole(name, found["missing_keys"])
    if loader is AutoTokenizer:
        loaded = _without_strays(loaded)
    loaded.name_or_path = str(name)
    return loaded


def _read_alone(
    loader: Any, name: str | Path, file: Path, options: dict[str, Any]
) -> Any:
    """Read a file as if it lay alone in a folder.

    Else transformers would mix in a tokenizer that lies beside it, or take weights from
    a file of the same name in the working directory.
    """
    with TemporaryDirectory(prefix="ser-kedro-gguf-") as folder:
        place = Path(folder) / "model.gguf"
        place.symlink_to(file)
        try:
            return loader.from_pretrained(folder, gguf_file=str(place), **options)
        except Exception as error:  # nobody says what readers raise at a broken file
            raise ModelError(_refusal(name, str(place), error)) from error


def _without_strays(tokenizer: Any) -> Any:
    """Leave out tokens that transformers adds to the vocabulary of the file.

    It builds a byte-level tokenizer by way of GPT-2's, which adds ``<|endoftext|>``
    where there is none (Llama 3), and no embedding has a row for that.
    """
    core = tokenizer.backend_tokenizer
    last = max(core.get_vocab(with_added_tokens=False).values())
    added = tokenizer.added_tokens_decoder
    kept = {number: token for number, token in added.items() if number <= last}
    if len(kept) == len(added):
        return tokenizer
    parts = json.loads(core.to_str())
    parts["added_tokens"] = [t for t in parts["added_tokens"] if t["id"] <= last]
    settings = {**tokenizer.init_kwargs, "added_tokens_decoder": kept}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(parts)), **settings
    )


def _refusal(name: str | Path, place: str, error: Exception) -> str:
    if isinstance(error, ImportError) and find_spec("gguf") is None:
        return (
            f"model={name}: GGUF files need the package gguf; pip install"
            " 'ser-kedro[gguf]'"
        )
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    reason = reason.replace(place, str(name))
    return (
        f"model={name}: cannot be loaded ({reason}); give a whole GGUF file of an"
        " architecture that transformers reads"
    )


def _check_whole(name: str | Path, missing: Any) -> None:
    """Refuse a file without all weights, such as the first of several parts."""
    if missing:
        raise ModelError(
            f"model={name}: {len(missing)} weights are not in the file, such as"
            f" {min(missing)}; give one file with the whole model"
        )
