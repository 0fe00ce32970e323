"""Several responses behind one copy of their prompt, in one row of the model.

A packed row is ``prompt + response_1 + … + response_k``. Positions restart after the
prompt for each response, the mask hides the responses from each other, and the rewards
are read where each response ends. For a decoder with causal attention this gives the
rewards and the gradients of ``k`` separate rows, for the price of one prompt.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from ser_kedro.models.agreement import Agreement
from ser_kedro.models.half import keep_head_exact
from ser_kedro.models.packed_rows import (
    Row,
    answer_tokens,
    attention_of,
    collate,
    hidden_states,
)
from ser_kedro.models.zero3 import is_zero3_enabled, probe

__all__ = ["Packing", "Row", "answer_tokens", "collate", "cut", "enable"]

logger = logging.getLogger(__name__)

# Rewards are compared as several heads would give them: the model's own may be new.
_HEADS = 8
# Tokens of the trial's prompts, and of the responses to each.
_TRIAL = ((11, (5, 13)), (5, (14, 9)), (16, (4, 12)), (2, (8, 7)))
# What has been said in this process of packed rows.
_said: set[tuple[str, str, bool]] = set()
# Limits on how far a token sees, by their names in configurations.
_WINDOWS = ("sliding_window", "window_size", "attention_window", "attention_chunk_size")
# Rotary scalings that depend on the longest row of a batch.
_BATCH_SCALED = ("dynamic", "longrope")


@dataclass(frozen=True)
class Packing:
    """Whether, and how, a model's rows may be packed.

    Attributes:
        exact: Packed rows give the rewards of plain ones; otherwise all stay plain.
        how: The attention that hides responses from each other, or why none does.
        longest: Packed rows above this many tokens would be cut by the model's
            window and stay plain; ``None``: there is no window.
        measured: How far packed rows were from plain ones, in words.
    """

    exact: bool
    how: str
    longest: int | None = None
    measured: str = field(default="", compare=False)

    def fits(self, tokens: int) -> bool:
        """Say whether a packed row of ``tokens`` tokens is exact."""
        return self.exact and (self.longest is None or tokens <= self.longest)

    def __str__(self) -> str:
        """Describe the choice in a line."""
        if not self.exact:
            return f"Packing disabled: {self.how}"
        limit = "" if self.longest is None else f", up to {self.longest} tokens a row"
        measured = f"; {self.measured}" if self.measured else ""
        return f"Packing enabled ({self.how}{limit}){measured}"


def enable(
    model: PreTrainedModel,
    *,
    wanted: bool = True,
    bf16: bool = False,
    settle: Callable[[], None] | None = None,
) -> Packing:
    """Teach a model's ``forward`` to read packed rows, where that is exact.

    Its head computes in the precision of its weights from then on.

    The choice is made by trial, on the model's own weights. Rewards of made-up prompts
    with two responses each, packed, must be those of separate rows: in fp32, and in
    the precision of the computation no further from fp32 than rounding puts separate
    rows too. So encoders, recurrent networks, ALiBi, and whatever else reads rows
    otherwise, keep plain rows.

    Args:
        model: A sequence-classification model, not yet wrapped for training. Its own
            ``forward`` is extended, so that what wraps it (adapters, DDP, DeepSpeed)
            sees every call.
        wanted: ``False`` keeps plain rows in any case.
        bf16: The model will compute in bf16, under autocast.
        settle: Makes it compute in bf16 without autocast; called once fp32 is compared.

    Returns:
        The choice, which is also logged; packing of a second model of the same kind
        on the level of debugging alone.
    """
    keep_head_exact(model)
    packing = Packing(False, "packing is switched off")
    if wanted:
        # Weights in parts (ZeRO 3) cannot be tried: a small whole model stands in.
        tried = probe(model) if is_zero3_enabled() else model
        packing = _choose(tried, bf16, settle)
    if packing.exact:
        model.forward = MethodType(_forward, model)
    # What is usual is said once: a run loads many models of one kind.
    name = type(model).__name__
    usual = packing.exact and (name, str(packing.longest), bf16) in _said
    logger.log(logging.DEBUG if usual else logging.INFO, "%s: %s", name, packing)
    _said.add((name, str(packing.longest), bf16))
    return packing


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
    hidden = hidden_states(self, input_ids, position_ids, segments, ends)
    return SequenceClassifierOutput(logits=self.score(hidden))


def _choose(
    model: PreTrainedModel, bf16: bool, settle: Callable[[], None] | None
) -> Packing:
    config = model.config.get_text_config()
    if not isinstance(getattr(model, "score", None), torch.nn.Linear):
        return Packing(False, "the model has no linear head read at the last token")
    scaling = getattr(config, "rope_parameters", None) or {}
    if scaling.get("rope_type") in _BATCH_SCALED:
        return Packing(False, "positions are scaled by the longest row of a batch")
    kind = attention_of(model)
    try:
        found = _try(model, bf16, settle)
    except Exception as error:  # what a model may raise at a strange mask is open
        return Packing(False, f"{kind} takes no mask of its own ({error})")
    numbers = ", ".join(f"{name}: {each}" for name, each in found.items())
    measured = f"packed and separate rows differ by a share of the spread ({numbers})"
    if all(each.holds for each in found.values()):
        return Packing(True, kind, _window(config), measured)
    return Packing(False, f"{kind}: {measured}")


@torch.no_grad()
def _try(
    model: PreTrainedModel, bf16: bool, settle: Callable[[], None] | None
) -> dict[str, Agreement]:
    """Compare packed with plain rows in fp32, and in the computation's precision."""
    size = model.get_input_embeddings().num_embeddings
    rows = _trial_rows(size)
    whole = model.dtype == torch.float32
    exact: Any = model if whole else copy.deepcopy(model).float()
    heads = _heads(exact)
    reference = torch.cat(
        [_plain(exact, [Row(row.prompt, [t])]) for row in rows for t in row.tails]
    )
    reference = reference @ heads
    judged = {"fp32": (exact, False)}
    if bf16 or not whole:
        dtype = torch.bfloat16 if whole else model.dtype
        judged[str(dtype).removeprefix("torch.")] = (model, whole and settle is None)
    found: dict[str, Agreement] = {}
    for name, (tried, cast) in judged.items():
        if found and settle is not None:
            settle()
        with torch.autocast(model.device.type, torch.bfloat16, enabled=cast):
            packed, plain = _packed(tried, rows), _plain(tried, rows)
        found[name] = Agreement.of(packed @ heads, plain @ heads, reference)
    return found


def _trial_rows(size: int) -> list[Row]:
    numbers = torch.Generator().manual_seed(0)

    def ids(count: int) -> list[int]:
        drawn = torch.randint(size, (count,), generator=numbers, device="cpu")
        return list(drawn.tolist())

    return [Row(ids(prompt), [ids(n) for n in tails]) for prompt, tails in _TRIAL]


def _heads(model: Any) -> Tensor:
    """Return the weights of some heads, the model's own among them if it has one."""
    own: Tensor = model.score.weight.detach().float().cpu()
    drawn = torch.randn(
        (_HEADS, own.shape[1]), generator=torch.Generator().manual_seed(0), device="cpu"
    )
    return torch.cat([drawn, own[own.norm(dim=1) > 0]]).T.to(model.device)


def _packed(model: Any, rows: list[Row]) -> Tensor:
    inputs = collate(rows, 0, packed=True)
    inputs = {name: value.to(model.device) for name, value in inputs.items()}
    return hidden_states(model, **inputs).float()


def _plain(model: Any, rows: list[Row]) -> Tensor:
    inputs = collate(rows, 0, packed=False)
    inputs = {name: value.to(model.device) for name, value in inputs.items()}
    states = model.base_model(**inputs, use_cache=False).last_hidden_state
    ends = inputs["attention_mask"].sum(1) - 1
    return states[torch.arange(len(states), device=ends.device), ends].float()


def _window(config: PretrainedConfig) -> int | None:
    windows = [getattr(config, name, None) for name in _WINDOWS]
    return min((w for w in windows if isinstance(w, int)), default=None)
