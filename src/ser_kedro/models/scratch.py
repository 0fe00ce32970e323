"""A small language model with random weights, for machines without a download."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from ser_kedro.models.params import ScratchParams

PAD, BOS, EOS = "<|pad|>", "<|begin|>", "<|end|>"


def train_tokenizer(texts: Iterator[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE, which can spell any text, with pad apart from eos.

    Args:
        texts: What to learn it on.
        vocab_size: Tokens at most, the 256 bytes and three special ones included.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=max(vocab_size, 256 + 3),
        special_tokens=[PAD, BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, bos_token=BOS, eos_token=EOS
    )


def random_model(
    params: ScratchParams,
    tokenizer: PreTrainedTokenizerFast,
    max_length: int,
    seed: int,
) -> LlamaForCausalLM:
    """Return a Llama of the given size with weights drawn from ``seed``."""
    torch.manual_seed(seed)
    config = scratch_config(
        params,
        len(tokenizer),
        max_length,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return LlamaForCausalLM(config)


def scratch_config(
    params: ScratchParams, vocab_size: int, max_length: int, **token_ids: int
) -> LlamaConfig:
    """Return the configuration of such a model.

    Args:
        params: Its sizes.
        vocab_size: Tokens of its tokenizer.
        max_length: Positions.
        token_ids: The special tokens.
    """
    return LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=params.hidden_size,
        intermediate_size=params.intermediate_size,
        num_hidden_layers=params.layers,
        num_attention_heads=params.heads,
        num_key_value_heads=params.heads,
        max_position_embeddings=max_length,
        tie_word_embeddings=True,
        **token_ids,
    )
