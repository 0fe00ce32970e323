"""Sampling of answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from transformers import GenerationConfig

from ser_kedro.policy.batch import Batch


class Sampling(Protocol):
    """How answers are sampled; see ``PpoParams``."""

    max_new_tokens: int
    temperature: float
    top_k: int
    top_p: float


def ends_of(model: Any, tokenizer: Any) -> set[int]:
    """Return the ids that end an answer: the tokenizer's and the model's own."""
    ends = np.atleast_1d(model.generation_config.eos_token_id).tolist()
    return {tokenizer.eos_token_id, *ends} - {None}


@torch.no_grad()
def sample(
    model: Any, batch: Batch, params: Sampling, eos: set[int], pad: int
) -> list[list[int]]:
    """Sample one answer to each prompt, with a KV cache, up to its first eos.

    Args:
        model: A causal language model.
        batch: ``n`` prompts; answers in it are not read.
        params: How to sample.
        eos: Ids that end an answer.
        pad: The pad token's id.

    Returns:
        ``n`` answers as token ids, the closing eos included.
    """
    settings = GenerationConfig(
        max_new_tokens=params.max_new_tokens,
        do_sample=True,
        temperature=params.temperature,
        top_k=params.top_k,
        top_p=params.top_p,
        # Whatever a model's own settings say: log-probabilities know none of it.
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        min_new_tokens=0,
        eos_token_id=sorted(eos) or None,
        pad_token_id=pad,
    )
    ids = model.generate(
        input_ids=batch.prompts,
        attention_mask=batch.prompt_mask.long(),
        generation_config=settings,
    )
    rows = ids[:, batch.prompts.shape[1] :].tolist()
    return [row[: answer_end(row, eos)] for row in rows]


def answer_end(tokens: Sequence[int], eos: set[int]) -> int:
    """Return the length of an answer, its eos included: to write it is an action."""
    return next((i + 1 for i, token in enumerate(tokens) if token in eos), len(tokens))
