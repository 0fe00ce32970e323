"""The pairs, the tokenizer and the models that all contenders share."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datasets import Dataset

    from ser_kedro.models.encode import EncodedPair

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "benchmarks"
DATA = ROOT.parent / "shared" / "data"
FILES = {part: DATA / f"hh_rlhf_base_{part}.jsonl.gz" for part in ("train", "test")}
MAX_LENGTH = 512
BATCH_SIZE = 16
LEARNING_RATE = 5e-4
VOCABULARY = 8192


@dataclass(frozen=True)
class Size:
    """Sizes of a Llama."""

    layers: int = 4
    hidden: int = 256
    intermediate: int = 688
    heads: int = 4
    kv_heads: int | None = None  # of keys and values, where they are fewer

    def __str__(self) -> str:
        """Name it."""
        return f"Llama of {self.layers} layers x {self.hidden}"


FULL = Size()


def prepare() -> None:
    """Write the encoded pairs, their texts and the tokenizer, once.

    Both responses of a pair are cut to ``MAX_LENGTH`` on the left of their prompt, here
    and for everybody: all contenders read the same token ids.
    """
    missing = [path for path in FILES.values() if not path.is_file()]
    if missing:
        sys.exit(
            f"benchmarks: no real pairs: {missing[0]} is not there. The HH-RLHF pairs"
            " are not part of this repository; put hh_rlhf_base_train.jsonl.gz and"
            " hh_rlhf_base_test.jsonl.gz into ../shared/data"
        )
    if (BUILD / "tokenizer").is_dir():
        return
    from datasets import Dataset

    from ser_kedro.models.encode import Encoder
    from ser_kedro.models.scratch import train_tokenizer
    from ser_kedro.preferences.schema import Pair
    from ser_kedro.preferences.source import PreferenceSource

    source = PreferenceSource(
        path=str(FILES["train"]), test_path=str(FILES["test"]), format="pairs"
    )
    rows = {
        part: [_row(pair) for pair in source.pairs(part) if isinstance(pair, Pair)]
        for part in ("train", "test")
    }
    texts = (
        text
        for prompt, *responses in rows["train"]
        for text in (*(turn["content"] for turn in prompt), *responses)
    )
    tokenizer = train_tokenizer(texts, VOCABULARY)
    encoder = Encoder(tokenizer, MAX_LENGTH)
    BUILD.mkdir(parents=True, exist_ok=True)
    for part, pairs in rows.items():
        encoded = encoder.pairs(*zip(*pairs, strict=True))
        useful = [pair for pair in encoded if not pair.equal]
        Dataset.from_dict(split(useful)).save_to_disk(str(BUILD / part))
        Dataset.from_dict(whole(useful)).save_to_disk(str(BUILD / f"{part}_whole"))
        (BUILD / f"{part}.json").write_text(json.dumps(pairs), "utf-8")
    tokenizer.save_pretrained(BUILD / "tokenizer")


def _row(pair: Any) -> tuple[list[dict[str, str]], str, str]:
    turns = [{"role": turn.role, "content": turn.content} for turn in pair.prompt]
    return turns, pair.chosen, pair.rejected


def split(pairs: Sequence[EncodedPair]) -> dict[str, list[Any]]:
    """Return the columns that our trainer reads."""
    columns: dict[str, list[Any]] = {
        "prompt_ids": [pair.prompt for pair in pairs],
        "chosen_ids": [pair.a for pair in pairs],
        "rejected_ids": [pair.b for pair in pairs],
    }
    said = {"weight": 1.0, "soft_label": 1.0, "margin": 0.0}
    return columns | {name: [value] * len(pairs) for name, value in said.items()}


def whole(pairs: Sequence[EncodedPair]) -> dict[str, list[Any]]:
    """Return the columns that TRL reads; ``length`` is for its sampler."""
    return {
        "chosen_ids": [pair.prompt + pair.a for pair in pairs],
        "rejected_ids": [pair.prompt + pair.b for pair in pairs],
        "length": [len(p.prompt) + max(len(p.a), len(p.b)) for p in pairs],
    }


def load(part: str) -> Dataset:
    """Return encoded pairs, memory-mapped.

    Args:
        part: ``train`` or ``test``, prompt and responses apart; ``train_whole`` or
            ``test_whole`` for TRL, each response behind its own copy of the prompt.
    """
    from datasets import Dataset

    return Dataset.load_from_disk(str(BUILD / part))


def tokenizer() -> Any:
    """Return the tokenizer."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(BUILD / "tokenizer")


def new_model(seed: int, size: Size = FULL) -> Any:
    """Return a reward model with the weights that belong to ``seed``."""
    import torch
    from transformers import LlamaForSequenceClassification

    torch.manual_seed(seed)
    return LlamaForSequenceClassification(
        llama_config(size, num_labels=1, problem_type="regression")
    )


def llama_config(size: Size, **options: Any) -> Any:
    """Return the configuration of a model of that size for the tokenizer."""
    from transformers import LlamaConfig

    words = tokenizer()
    return LlamaConfig(
        vocab_size=len(words),
        hidden_size=size.hidden,
        intermediate_size=size.intermediate,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads,
        max_position_embeddings=MAX_LENGTH,
        pad_token_id=words.pad_token_id,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        **options,
    )
