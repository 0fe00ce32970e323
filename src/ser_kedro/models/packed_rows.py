"""Packed rows: responses behind one copy of their prompt, as inputs of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

# Segments of a row: the prompt, which all see; responses are numbered from 1.
_PROMPT = 0
_PADDING = -1


@dataclass(frozen=True, slots=True)
class Row:
    """A prompt and responses to it, as token ids.

    Attributes:
        prompt: Ids of the prompt.
        tails: Ids of each response, none of them empty.
    """

    prompt: list[int]
    tails: list[list[int]]


def collate(rows: Sequence[Row], pad_token_id: int, *, packed: bool) -> dict[str, Any]:
    """Return the inputs of one forward pass over rows.

    Args:
        rows: The rows.
        pad_token_id: What fills the short ones.
        packed: One row of the model for each; otherwise one for each response.

    Returns:
        Arguments of ``forward``; ``logits`` then holds one reward for each response,
        row by row, in the order of the tails.
    """
    if not packed:
        ids = [torch.tensor(row.prompt + tail) for row in rows for tail in row.tails]
        return {
            "input_ids": _pad(ids, pad_token_id),
            "attention_mask": _pad([torch.ones_like(row) for row in ids], 0),
        }
    ids, positions, segments, ends = [], [], [], []
    for row in rows:
        start = len(row.prompt)
        sizes = [start, *map(len, row.tails)]
        flat = [*row.prompt, *(token for tail in row.tails for token in tail)]
        ids.append(torch.tensor(flat))
        steps = [torch.arange(start), *(start + torch.arange(n) for n in sizes[1:])]
        positions.append(torch.cat(steps))
        segments.append(
            torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
        )
        ends.append(torch.tensor(sizes).cumsum(0)[1:] - 1)
    inputs = _pad(ids, pad_token_id)
    width = inputs.shape[1]
    return {
        "input_ids": inputs,
        "position_ids": _pad(positions, 0),
        "segments": _pad(segments, _PADDING),
        "ends": torch.cat([end + i * width for i, end in enumerate(ends)]),
    }


def answer_tokens(
    rows: Sequence[Row], width: int, *, packed: bool
) -> dict[str, Tensor]:
    """Return what a language model would predict of the responses, and from where.

    The first token of a response is predicted at the end of the prompt, which packed
    responses share; behind an empty prompt it is not predicted.

    Args:
        rows: The rows, as ``collate`` got them.
        width: Tokens of a row of the model, padding included.
        packed: As of ``collate``.

    Returns:
        Three tensors of shape ``(tokens,)``: ``before``, where a token is predicted,
        among all positions of the batch, row by row; ``token``, its id; ``share``, its
        part in the mean over the tokens of a response and the responses to a prompt.
    """
    before: list[int] = []
    tokens: list[int] = []
    shares: list[float] = []
    corner = 0  # the first position of a row of the model
    for row in rows:
        first = len(row.prompt)  # of a response, in its row
        for tail in row.tails:
            start = corner + first
            places = [
                corner + len(row.prompt) - 1,
                *range(start, start + len(tail) - 1),
            ]
            known = slice(0 if row.prompt else 1, None)
            count = len(tail[known])
            before += places[known]
            tokens += tail[known]
            shares += [1 / (max(1, count) * len(row.tails))] * count
            first += len(tail) if packed else 0
            corner += 0 if packed else width
        corner += width if packed else 0
    return {
        "before": torch.tensor(before, dtype=torch.long),
        "token": torch.tensor(tokens, dtype=torch.long),
        "share": torch.tensor(shares, dtype=torch.float32),
    }


def hidden_states(
    model: PreTrainedModel,
    input_ids: Tensor,
    position_ids: Tensor | None,
    segments: Tensor,
    ends: Tensor | None,
) -> Tensor:
    """Return the last hidden states at the ends of all responses of packed rows.

    Args:
        model: The model; only its base is called.
        input_ids: From ``collate``, like all that follows.
        position_ids: As there.
        segments: As there.
        ends: As there.

    Returns:
        Shape ``(responses, hidden)``.
    """
    outputs = model.base_model(
        input_ids=input_ids,
        position_ids=position_ids,
        attention_mask=_mask(segments, attention_of(model), model.dtype),
        use_cache=False,
    )
    states: Tensor = outputs.last_hidden_state.flatten(0, 1)[ends]
    return states


def _mask(segments: Tensor, attention: str, dtype: torch.dtype) -> Tensor:
    """Let each token see what precedes it in the prompt and in its own response.

    A padding token sees itself and the prompt, so that no row of the mask is empty.
    """
    seen = segments[:, None, :]
    mask = ((seen == _PROMPT) | (seen == segments[:, :, None])).tril()[:, None]
    if attention == "sdpa":
        return mask
    hidden = torch.finfo(dtype).min  # attention spelt out adds the mask to the scores
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(
        ~mask, hidden
    )


def attention_of(model: PreTrainedModel) -> str:
    """Return the name of the attention that a model computes with."""
    return str(model.config._attn_implementation)


def _pad(rows: list[Tensor], value: int) -> Tensor:
    return pad_sequence(rows, batch_first=True, padding_value=value)
