"""Policy, reference and value on one copy of the weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AutoConfig, AutoModelForCausalLM

from ser_kedro.errors import ModelError
from ser_kedro.models.last_layers import stop_gradients
from ser_kedro.models.lora import adapter_config
from ser_kedro.models.precision import uses_bf16
from ser_kedro.models.reward_model import from_pretrained
from ser_kedro.models.speed_trial import Use
from ser_kedro.policy.batch import Batch, collate
from ser_kedro.policy.ppo_params import PpoParams

# Logits that exist at once, in numbers: 64 MiB in fp32. Log-probabilities are read off
# them chunk by chunk, and a backward pass computes them again.
_LOGITS_AT_ONCE = 2**24
# What two ways to the same log-probabilities may differ by, in nats.
_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.5}


class ActorCritic(nn.Module):
    """A language model as policy, with a value head on its last hidden states.

    With adapters the reference is the same network, adapters off; with full
    fine-tuning it is a frozen copy. The value is a linear head on the policy's own
    hidden states: it costs no second forward pass and no second set of activations,
    where a second adapter would cost both. No gradient of it reaches the policy, unlike
    in the trainer that the paper used: with large rewards the error of the values drove
    the policy away, at a KL coefficient of 1000 to 2 nats where it should not move. It
    starts at zero, so that the first advantages are the rewards themselves.

    Attributes:
        language_model: The policy; a ``PeftModel`` where it has adapters.
        value_head: Linear, in fp32.
        reference: The frozen copy, or ``None``; no submodule, so that no optimiser and
            no wrapper sees it.
    """

    def __init__(self, language_model: Any, reference: Any = None) -> None:
        super().__init__()
        self.language_model = language_model
        hidden = self.causal.config.get_text_config().hidden_size
        self.value_head = nn.Linear(hidden, 1)
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)
        object.__setattr__(self, "reference", reference)

    @classmethod
    def load(
        cls, folder: Path, params: PpoParams, *, reference: bool = True
    ) -> ActorCritic:
        """Start from a language model's folder.

        Args:
            folder: A Hugging Face folder.
            params: What to train and how.
            reference: Whether a reference will be asked for.
        """
        # Frozen weights need no master copy; trained ones do.
        config = from_pretrained(AutoConfig, folder)
        half = params.lora is not None and precision(config, params) == torch.bfloat16
        dtype = torch.bfloat16 if half else torch.float32
        model = from_pretrained(AutoModelForCausalLM, folder, dtype=dtype)
        copied = None
        if params.lora is not None:
            adapters = adapter_config(params.lora, "CAUSAL_LM", model)
            stop_gradients(model, params.lora)
            model = get_peft_model(model, adapters)
        elif reference:
            copied = copy.deepcopy(model).eval().requires_grad_(False)
        actor = cls(model, copied)
        if not params.dropout:
            switch_off_dropout(actor)
        if params.gradient_checkpointing:
            actor.causal.gradient_checkpointing_enable({"use_reentrant": False})
        return actor

    @property
    def causal(self) -> Any:
        """The causal language model itself, with adapters in it where it has any."""
        inner: Any = getattr(self.language_model, "base_model", None)
        return (
            inner.model if hasattr(inner, "merge_and_unload") else self.language_model
        )

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.value_head.weight.device

    def forward(
        self, batch: Batch, temperature: float, entropy: bool = False
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Read answers; positions after an answer's end are zero in all results.

        Args:
            batch: ``n`` prompts and answers.
            temperature: Of the sampling; logits are divided by it.
            entropy: Return it too; only without gradients.

        Returns:
            Log-probability of each token of an answer, value of the state before it,
            and entropy of the policy in that state or ``None``; each of shape
            ``(n, answer length)``, in nats or in reward.
        """
        states = _states(self.causal, batch)
        # Only real tokens meet the vocabulary, the widest layer there is.
        found = states[batch.mask]
        head = self.causal.get_output_embeddings()
        log_probs, entropies = token_log_probs(
            head, found, batch.answers[batch.mask], temperature, entropy=entropy
        )
        with torch.autocast(found.device.type, enabled=False):
            values = self.value_head(found.detach().float()).squeeze(-1)
        return (
            _unflatten(log_probs, batch.mask),
            _unflatten(values, batch.mask),
            None if entropies is None else _unflatten(entropies, batch.mask),
        )

    @torch.no_grad()
    def reference_log_probs(self, batch: Batch, temperature: float) -> Tensor:
        """Return the reference's log-probabilities, as ``forward`` the policy's."""
        with self._as_reference() as model:
            states = _states(model, batch)[batch.mask]
            head = model.get_output_embeddings()
            answers = batch.answers[batch.mask]
            log_probs, _ = token_log_probs(head, states, answers, temperature)
        return _unflatten(log_probs, batch.mask)

    @torch.no_grad()
    def kl(self, batch: Batch, temperature: float) -> Tensor:
        """Return the KL of the policy to the reference in each state of answers.

        Over the whole vocabulary: never negative, and of far less variance than the
        difference of the sampled tokens' log-probabilities (arXiv 2504.10637). It
        costs both models' logits, so evaluations use it and rollouts do not.

        Returns:
            Nats, shape ``(n, answer length)``, zero after an answer's end.
        """
        states = _states(self.causal, batch)[batch.mask]
        head = self.causal.get_output_embeddings()
        with self._as_reference() as model:
            others = _states(model, batch)[batch.mask]
            other_head = model.get_output_embeddings()
        size = max(1, _LOGITS_AT_ONCE // head.weight.shape[0])
        found = []
        for part, other in zip(states.split(size), others.split(size), strict=True):
            ours = (head(part).float() / temperature).log_softmax(-1)
            theirs = (other_head(other).float() / temperature).log_softmax(-1)
            found.append((ours.exp() * (ours - theirs)).sum(-1).clamp(min=0))
        return _unflatten(torch.cat(found), batch.mask)

    @contextmanager
    def _as_reference(self) -> Iterator[Any]:
        if self.reference is not None:
            yield self.reference.to(self.device)
        else:
            with self.language_model.disable_adapter():
                yield self.causal

    def trainable(self) -> dict[str, nn.Parameter]:
        """Return what training moves, by name."""
        named = self.named_parameters()
        return {name: weight for name, weight in named if weight.requires_grad}

    def load_trainable(self, weights: dict[str, Tensor]) -> None:
        """Take over what ``trainable`` gave."""
        with torch.no_grad():
            for name, weight in self.trainable().items():
                weight.copy_(weights[name])

    def merged(self) -> Any:
        """Return the policy as a plain language model; this object ends with it."""
        if self.causal is self.language_model:
            return self.language_model
        # In full precision: a sum in half precision would lose most of an adapter.
        return self.language_model.float().merge_and_unload()

    @torch.no_grad()
    def check(self, prompt: Sequence[int]) -> None:
        """Compare our log-probabilities with the model's own on one prompt.

        Raises:
            ModelError: If they differ: the model does something between its last
                hidden state and its logits that we do not.
        """
        ids = torch.tensor([prompt], device=self.device)
        own = self.causal(input_ids=ids).logits[0, -1].float().log_softmax(-1)
        token = int(own.argmax())
        batch = collate([prompt], [[token]], 0, self.device)
        ours, _, _ = self(batch, 1.0)
        gap = abs(float(ours[0, 0] - own[token]))
        if not gap <= _TOLERANCE.get(self.causal.dtype, 0.5):
            raise ModelError(
                f"{self.causal.config.model_type}: its log-probabilities are {gap:.2g}"
                " nats away from those of its last hidden states and its output layer"
                " (it scales or caps its logits?); PPO cannot train such a model"
            )


def precision(config: Any, params: PpoParams) -> torch.dtype:
    """Return the precision of the matrix products of a policy's training.

    Args:
        config: Of the language model.
        params: How it is trained.
    """
    length = params.max_prompt_length + params.max_new_tokens
    use = Use("sft", length, params.lora, params.gradient_checkpointing)
    half = uses_bf16(params.precision, config, use)
    return torch.bfloat16 if half else torch.float32


def switch_off_dropout(model: nn.Module) -> None:
    """Set every dropout to zero, in modules and in attention functions alike.

    Rollouts and updates must read one and the same policy: with dropout in one of them
    the ratio measures noise.
    """
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name in ("attention_dropout", "dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)


def _states(model: Any, batch: Batch) -> Tensor:
    """Return the hidden states from which each token of the answers is predicted.

    Shape ``(n, answer length, hidden size)``. The last token predicts nothing and is
    not fed. Position ids count real tokens, so that padding moves nothing.
    """
    ids = torch.cat([batch.prompts, batch.answers], 1)[:, :-1]
    mask = torch.cat([batch.prompt_mask, batch.mask], 1)[:, :-1].long()
    output = model.base_model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=(mask.cumsum(1) - 1).clamp(min=0),
        use_cache=False,
    )
    return output.last_hidden_state[:, batch.prompts.shape[1] - 1 :]


def token_log_probs(
    head: Any,
    states: Tensor,
    tokens: Tensor,
    temperature: float,
    *,
    entropy: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Return the log-probabilities of tokens, never holding all logits at once.

    Args:
        head: The output layer.
        states: Hidden states, shape ``(m, hidden size)``.
        tokens: Token ids, shape ``(m,)``.
        temperature: Logits are divided by it.
        entropy: Return the entropies of the states too.

    Returns:
        Log-probabilities and, if asked for, entropies, in nats, of shape ``(m,)``.
    """
    size = max(1, _LOGITS_AT_ONCE // head.weight.shape[0])
    again = torch.is_grad_enabled() and len(states) > size

    def read(part: Tensor, ids: Tensor) -> tuple[Tensor, ...]:
        logits = head(part).float() / temperature
        total = logits.logsumexp(-1)
        log_probs = logits.gather(-1, ids[:, None]).squeeze(-1) - total
        if not entropy:
            return (log_probs,)
        mean = (logits.sub(total[:, None]).exp() * logits).sum(-1)
        return log_probs, total - mean

    pieces = [
        checkpoint(read, part, ids, use_reentrant=False) if again else read(part, ids)
        for part, ids in zip(states.split(size), tokens.split(size), strict=True)
    ]
    log_probs = torch.cat([piece[0] for piece in pieces])
    return log_probs, torch.cat([p[1] for p in pieces]) if entropy else None


def _unflatten(flat: Tensor, mask: Tensor) -> Tensor:
    # Zero after an answer's end, so that sums over rows are sums over real tokens.
    return torch.zeros(mask.shape, device=flat.device).masked_scatter(mask, flat)
