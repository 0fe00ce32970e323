"""A language model's loss on the hidden states of a reward model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModelForCausalLM

from ser_kedro.errors import ModelError
from ser_kedro.models.reward_model import from_pretrained
from ser_kedro.models.zero3 import is_zero3_enabled
from ser_kedro.store.references import ModelRef

# Tokens of the row on which a language model's logits are tried.
_TRIAL = 8


class LanguageLoss:
    """Negative log-likelihood of the responses, from a reward model's hidden states.

    Generalizable reward models (Yang et al., 2024, arXiv 2406.10216): hidden states
    from which a language model can still write the responses carry further than those
    that a few preferences alone have formed. Both responses of a pair count here. The
    paper takes the preferred one. That choice is a label, which pairs of the pool have
    not, and these must be treated as the others are.

    The logits are the last hidden states times the output embeddings of the language
    model that the reward model starts from. Where these are its input embeddings
    (tied), they are trained on; a head of its own stays as it was.
    """

    def __init__(self, model: Any, head: nn.Module | None, weight: float) -> None:
        """Read the states of a model.

        Args:
            model: A reward model, not yet wrapped for training.
            head: From ``output_embeddings``.
            weight: Of this loss, in [0, 1); the pairwise one has the rest.
        """
        self.base, self.weight = model.base_model, weight
        self.head = None if head is None else head.to(model.device)
        self._states: Tensor | None = None

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Keep the last hidden states of the forward pass that is made inside."""

        def keep(_: Any, __: Any, outputs: Any) -> None:
            self._states = outputs.last_hidden_state

        hook = self.base.register_forward_hook(keep)
        try:
            yield
        finally:
            hook.remove()

    def added_to(self, pairwise: Tensor, answers: dict[str, Tensor]) -> Tensor:
        """Return ``(1 - weight) * pairwise + weight * language``, summed over pairs.

        Args:
            pairwise: The sum of the pairwise losses of the pass that was read.
            answers: The tokens of that pass, from ``answer_tokens``.
        """
        return (1 - self.weight) * pairwise + self.weight * self._language(**answers)

    def _language(self, before: Tensor, token: Tensor, share: Tensor) -> Tensor:
        assert self._states is not None
        states, self._states = self._states.flatten(0, 1)[before], None
        tied = self.head is None
        logits = _logits(
            states, self.base.get_input_embeddings() if tied else self.head
        )
        losses = functional.cross_entropy(logits.float(), token, reduction="none")
        return (losses * share).sum()


def language_loss(model: Any, start: ModelRef, weight: float) -> LanguageLoss | None:
    """Return the loss with a weight; ``None`` where that is 0.

    Args:
        model: A reward model that was loaded from ``start``.
        start: What it starts from.
        weight: ``RewardParams.lm_weight``.

    Raises:
        ModelError: If ``start`` is no language model, if its logits are not linear in
            its hidden states, or if weights are in parts.
    """
    if not weight:
        return None
    if start.kind != "language_model":
        raise ModelError(
            f"reward.lm_weight={weight:g}: {start.kind.replace('_', ' ')}s have no"
            " language-model head; start from a language model (self_evolve.start:"
            " sft), or give reward.lm_weight=0"
        )
    if is_zero3_enabled():
        raise ModelError(
            f"reward.lm_weight={weight:g}: not under ZeRO 3, where the output"
            " embeddings are in parts; choose ZeRO 2, or give reward.lm_weight=0"
        )
    return LanguageLoss(model, output_embeddings(start), weight)


def output_embeddings(start: ModelRef) -> nn.Module | None:
    """Return a language model's own head, frozen; ``None`` where embeddings are tied.

    Raises:
        ModelError: If the model's logits are not what the head gives.
    """
    model = from_pretrained(
        AutoModelForCausalLM, start.location, dtype=torch.float32
    ).eval()
    head = model.get_output_embeddings()
    if head is None or not _is_linear(model, head):
        raise ModelError(
            "reward.lm_weight: the logits of this language model are not its last"
            " hidden states times its output embeddings; give reward.lm_weight=0"
        )
    tied = head.weight is model.get_input_embeddings().weight
    return None if tied else head.requires_grad_(False)


@torch.no_grad()
def _is_linear(model: Any, head: Any) -> bool:
    """Say whether logits are the head's output, neither scaled nor capped after it."""
    ids = torch.arange(_TRIAL)[None] % model.get_input_embeddings().num_embeddings
    states = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    logits = model(input_ids=ids, use_cache=False).logits
    return torch.allclose(_logits(states, head), logits, rtol=1e-3, atol=1e-3)


def _logits(states: Tensor, embeddings: Any) -> Tensor:
    bias = getattr(embeddings, "bias", None)
    return functional.linear(states, embeddings.weight, bias)
