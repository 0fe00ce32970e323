"""Several responses behind one copy of their prompt, in one row of the model.

A packed row is ``prompt + response_1 + … + response_k``. Positions restart after the
prompt for each response, the mask hides the responses from each other, and the rewards
are read where each response ends. For a decoder with causal attention this gives the
rewards and the gradients of ``k`` separate rows, for the price of one prompt.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask
from torch.nn.utils.rnn import pad_sequence
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from ser_kedro.models.zero3 import is_zero3_enabled, probe

logger = logging.getLogger(__name__)

# Segments of a row: the prompt, which all see; responses are numbered from 1.
_PROMPT = 0
_PADDING = -1
# How far hidden states may differ between packed and plain rows, as a share of their
# spread: rounding, by the precision of the weights.
_ROUNDING = {torch.float32: 1e-5, torch.bfloat16: 0.1, torch.float16: 0.02}
# Limits on how far a token sees, by their names in configurations.
_WINDOWS = ("sliding_window", "window_size", "attention_window", "attention_chunk_size")
# Rotary scalings that depend on the longest row of a batch.
_BATCH_SCALED = ("dynamic", "longrope")


@dataclass(frozen=True, slots=True)
class Row:
    """A prompt and responses to it, as token ids.

    Attributes:
        prompt: Ids of the prompt.
        tails: Ids of each response, none of them empty.
    """

    prompt: list[int]
    tails: list[list[int]]


@dataclass(frozen=True)
class Packing:
    """Whether, and how, a model's rows may be packed.

    Attributes:
        exact: Packed rows give the rewards of plain ones; otherwise all stay plain.
        how: The attention that hides responses from each other, or why none does.
        longest: Packed rows above this many tokens would be cut by the model's
            window and stay plain; ``None``: there is no window.
    """

    exact: bool
    how: str
    longest: int | None = None

    def fits(self, tokens: int) -> bool:
        """Say whether a packed row of ``tokens`` tokens is exact."""
        return self.exact and (self.longest is None or tokens <= self.longest)

    def __str__(self) -> str:
        """Describe the choice in a line."""
        if not self.exact:
            return f"plain rows: {self.how}"
        limit = "" if self.longest is None else f", up to {self.longest} tokens a row"
        return f"packed rows ({self.how}{limit})"


def enable(model: PreTrainedModel, *, wanted: bool = True) -> Packing:
    """Teach a model's ``forward`` to read packed rows, where that is exact.

    The choice is made by trial: hidden states of a made-up prompt with two responses,
    packed, are compared with those of separate rows. So encoders, recurrent networks,
    ALiBi, and whatever else reads rows otherwise, keep plain rows.

    Args:
        model: A sequence-classification model, not yet wrapped for training. Its own
            ``forward`` is extended, so that what wraps it (adapters, DDP, DeepSpeed)
            sees every call.
        wanted: ``False`` keeps plain rows in any case.

    Returns:
        The choice, which is also logged.
    """
    packing = Packing(False, "packing is switched off")
    if wanted:
        # Weights in parts (ZeRO 3) cannot be tried: a small whole model stands in.
        tried = probe(model) if is_zero3_enabled() else model
        packing = _choose(tried)
        if tried is not model:
            model.set_attn_implementation(_attention(tried))
    if packing.exact:
        model.forward = MethodType(_forward, model)
    logger.info("%s: %s", type(model).__name__, packing)
    return packing


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


def cut(costs: Sequence[int], tokens: int, multiple: int = 1) -> Iterator[list[int]]:
    """Cut rows into batches of like length.

    Args:
        costs: Tokens of each row.
        tokens: Padded tokens of a batch, at most; a batch has ``multiple`` rows in any
            case.
        multiple: The number of rows of each batch is a multiple of it, save perhaps
            the last one's: the processes that share a batch then get equally many.

    Yields:
        Indices of the rows of a batch, shortest first.
    """
    order = np.argsort(np.asarray(costs), kind="stable").tolist()
    batch: list[int] = []
    for start in range(0, len(order), multiple):
        block = order[start : start + multiple]
        # Rows come shortest first: the newest is what all are padded to.
        if batch and costs[block[-1]] * (len(batch) + len(block)) > tokens:
            yield batch
            batch = []
        batch += block
    if batch:
        yield batch


def _pad(rows: list[Tensor], value: int) -> Tensor:
    return pad_sequence(rows, batch_first=True, padding_value=value)


def _forward(
    self: PreTrainedModel,
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    position_ids: Tensor | None = None,
    segments: Tensor | None = None,
    ends: Tensor | None = None,
    **options: Any,
) -> Any:
    """Read plain rows as the class does, packed ones (``segments``) at their ends."""
    if segments is None:
        return type(self).forward(
            self, input_ids=input_ids, attention_mask=attention_mask, **options
        )
    hidden = _hidden_states(self, input_ids, position_ids, segments, ends)
    # In the head's own precision: half precision would round rewards to three digits.
    with torch.autocast(hidden.device.type, enabled=False):
        rewards = self.score(hidden.to(self.score.weight.dtype))
    return SequenceClassifierOutput(logits=rewards)


def _hidden_states(
    model: PreTrainedModel,
    input_ids: Tensor,
    position_ids: Tensor | None,
    segments: Tensor,
    ends: Tensor | None,
) -> Tensor:
    outputs = model.base_model(
        input_ids=input_ids,
        position_ids=position_ids,
        attention_mask=_mask(segments, _attention(model), model.dtype),
        use_cache=False,
    )
    return outputs.last_hidden_state.flatten(0, 1)[ends]


def _mask(segments: Tensor, attention: str, dtype: torch.dtype) -> Tensor | BlockMask:
    """Let each token see what precedes it in the prompt and in its own response.

    A padding token sees itself and the prompt, so that no row of the mask is empty.
    """
    size, length = segments.shape
    if attention == "flex_attention":

        def visible(b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
            seen = segments[b, key]
            return (key <= query) & ((seen == _PROMPT) | (seen == segments[b, query]))

        return create_block_mask(
            visible, size, None, length, length, device=str(segments.device)
        )
    seen = segments[:, None, :]
    mask = ((seen == _PROMPT) | (seen == segments[:, :, None])).tril()[:, None]
    if attention == "sdpa":
        return mask
    hidden = torch.finfo(dtype).min  # attention spelt out adds the mask to the scores
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(
        ~mask, hidden
    )


def _attention(model: PreTrainedModel) -> str:
    return str(model.config._attn_implementation)


def _choose(model: PreTrainedModel) -> Packing:
    config = model.config.get_text_config()
    if not isinstance(getattr(model, "score", None), torch.nn.Linear):
        return Packing(False, "the model has no linear head read at the last token")
    scaling = getattr(config, "rope_parameters", None) or {}
    if scaling.get("rope_type") in _BATCH_SCALED:
        return Packing(False, "positions are scaled by the longest row of a batch")
    loaded_with = _attention(model)
    # FlexAttention skips the blocks that the mask hides, where it has a kernel.
    faster = ["flex_attention"] if model.device.type == "cuda" else []
    reasons = []
    for kind in [*faster, loaded_with]:
        try:
            model.set_attn_implementation(kind)
            gap = _gap(model)
        except Exception as error:  # what a model may raise at a strange mask is open
            reasons.append(f"{kind} takes no mask of its own ({error})")
            continue
        if gap <= _ROUNDING.get(model.dtype, 0.0):
            return Packing(True, kind, _window(config))
        reasons.append(f"{kind} would give other rewards")
    model.set_attn_implementation(loaded_with)
    return Packing(False, "; ".join(reasons))


@torch.no_grad()
def _gap(model: PreTrainedModel) -> float:
    """Return how far hidden states of packed rows lie from those of plain ones."""
    size = model.get_input_embeddings().num_embeddings
    ids = torch.randint(
        size, (48,), generator=torch.Generator().manual_seed(0), device="cpu"
    ).tolist()
    rows = [Row(ids[:11], [ids[11:16], ids[16:29]]), Row(ids[29:34], [ids[34:48]])]
    inputs = {
        name: value.to(model.device)
        for name, value in collate(rows, 0, packed=True).items()
    }
    packed = _hidden_states(model, **inputs)
    plain = [
        model.base_model(
            input_ids=torch.tensor([row.prompt + tail], device=model.device),
            use_cache=False,
        ).last_hidden_state[0, -1]
        for row in rows
        for tail in row.tails
    ]
    states = torch.stack(plain)
    gap = (packed - states).abs().max() / states.std()
    return float(torch.nan_to_num(gap, nan=float("inf")))


def _window(config: PretrainedConfig) -> int | None:
    windows = [getattr(config, name, None) for name in _WINDOWS]
    return min((w for w in windows if isinstance(w, int)), default=None)
