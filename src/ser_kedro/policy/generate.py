"""Sampling of answers."""

from __future__ import annotations

from inspect import signature
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from transformers import (
    DynamicCache,
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from ser_kedro.errors import ModelError
from ser_kedro.models.params import Precision
from ser_kedro.models.precision import uses_bf16
from ser_kedro.models.speed_trial import Use
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


class Writing(Protocol):
    """How long answers are, and in which precision they are written."""

    precision: Precision
    max_prompt_length: int
    max_new_tokens: int


def writing_precision(config: Any, params: Writing) -> torch.dtype:
    """Return the precision of the weights that write answers.

    Args:
        config: Of the language model.
        params: How it writes.
    """
    use = Use("generation", params.max_prompt_length + params.max_new_tokens)
    half = uses_bf16(params.precision, config, use)
    return torch.bfloat16 if half else torch.float32


@torch.no_grad()
def sample(
    model: Any, batch: Batch, params: Sampling, eos: set[int], count: int = 1
) -> list[list[int]]:
    """Sample answers to each prompt, each up to its first eos.

    Each prompt is read once, whatever the count, and answers that have ended take no
    further part. Nothing of a model's own generation settings is used (penalties, least
    lengths): log-probabilities know none of it.

    Args:
        model: A causal language model.
        batch: ``n`` prompts; answers in it are not read.
        params: How to sample.
        eos: Ids that end an answer.
        count: Answers to each prompt.

    Returns:
        ``n * count`` answers as token ids, all to one prompt together, the closing eos
        included.

    Raises:
        ModelError: If the model has no KV cache.
    """
    reader = _Reader(model, batch)
    logits = reader.read(batch.prompts)
    reader.repeat(count)
    logits = logits.repeat_interleave(count, 0)
    warpers = _warpers(params)
    ends = torch.tensor(sorted(eos), device=logits.device)
    answers: list[list[int]] = [[] for _ in logits]
    rows = list(range(len(answers)))  # the answers that have not ended
    for left in reversed(range(params.max_new_tokens)):
        chances = warpers(None, logits.float()).softmax(-1)
        tokens = torch.multinomial(chances, 1)
        for row, token in zip(rows, tokens[:, 0].tolist(), strict=True):
            answers[row].append(token)
        going = [i for i, row in enumerate(rows) if answers[row][-1] not in eos]
        if not going or not left:
            break
        if len(going) < len(rows):
            rows = [rows[i] for i in going]
            kept = torch.tensor(going, device=ends.device)
            reader.keep(kept)
            tokens = tokens[kept]
        logits = reader.read(tokens)
    return answers


class _Reader:
    """Reads rows of tokens bit by bit, with the keys and values of what was read."""

    def __init__(self, model: Any, batch: Batch) -> None:
        # Of the class: accelerate wraps the object's own.
        known = signature(type(model).forward).parameters
        if "past_key_values" not in known:
            raise ModelError(
                f"{model.config.model_type}: keeps no keys and values of what it has"
                " read, as sampling needs it; choose a model with attention"
            )
        self._model = model
        self._cache = DynamicCache(config=model.config)
        self._mask = batch.prompt_mask[:, :0].long()
        self._next = batch.prompt_mask.long()
        self._positions = "position_ids" in known
        self._last = {"logits_to_keep": 1} if "logits_to_keep" in known else {}

    def read(self, tokens: Tensor) -> Tensor:
        """Read the next tokens of all rows and return the last one's logits."""
        self._mask = torch.cat([self._mask, self._next], 1)
        # They count real tokens, so that padding moves nothing.
        places = (self._mask.cumsum(1) - 1).clamp(min=0)[:, -tokens.shape[1] :]
        output = self._model(
            input_ids=tokens,
            attention_mask=self._mask,
            past_key_values=self._cache,
            use_cache=True,
            **({"position_ids": places} if self._positions else {}),
            **self._last,
        )
        self._next = self._mask.new_ones(len(tokens), 1)
        return output.logits[:, -1]

    def repeat(self, count: int) -> None:
        """Let ``count`` equal rows follow in place of each."""
        if count > 1:
            self._cache.batch_repeat_interleave(count)
            self._mask = self._mask.repeat_interleave(count, 0)
            self._next = self._next.repeat_interleave(count, 0)

    def keep(self, rows: Tensor) -> None:
        """Drop all rows but some."""
        self._cache.batch_select_indices(rows)
        self._mask, self._next = self._mask[rows], self._next[rows]


def _warpers(params: Sampling) -> LogitsProcessorList:
    found: list[Any] = []
    if params.temperature != 1.0:
        found.append(TemperatureLogitsWarper(params.temperature))
    if params.top_k:
        found.append(TopKLogitsWarper(params.top_k))
    if params.top_p < 1.0:
        found.append(TopPLogitsWarper(params.top_p))
    return LogitsProcessorList(found)
