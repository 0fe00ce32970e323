"""Rewards of texts: what PPO asks of a reward model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from ser_kedro.reward.encode import EncodedPair, Encoder, Messages
from ser_kedro.reward.model import check_window, load_reward_model
from ser_kedro.reward.score import score_encoded


class Scorer:
    """A reward model as a function over text, with its own tokenizer and template.

    Attributes:
        model: The reward model, in evaluation mode.
        encoder: Its encoder.
        score_tokens: Padded tokens of one batch.
    """

    def __init__(
        self,
        folder: Path,
        max_length: int,
        *,
        score_tokens: int = 16384,
        device: torch.device | str = "cpu",
    ) -> None:
        """Load the model of ``folder``; rows have ``max_length`` tokens at most."""
        model, tokenizer = load_reward_model(folder, seed=0)
        check_window(model.config, max_length, "reward")
        self.model = model.to(device).requires_grad_(False)
        self.encoder = Encoder(tokenizer, max_length)
        self.score_tokens = score_tokens

    def __call__(
        self, prompts: Sequence[Messages], responses: Sequence[str]
    ) -> list[float]:
        """Return the raw reward of each response to its prompt.

        Args:
            prompts: ``n`` dialogues.
            responses: ``n`` responses, empty ones too.
        """
        encoded = self.encoder.pairs(prompts, responses, responses)
        rows = [pair.prompt + pair.a for pair in encoded]
        # Two rows a pair, none of them twice (but for an odd one at the end).
        pairs = [
            EncodedPair([], rows[i], rows[min(i + 1, len(rows) - 1)], False)
            for i in range(0, len(rows), 2)
        ]
        pad = self.encoder.tokenizer.pad_token_id
        scored = score_encoded(self.model, pairs, pad, self.score_tokens)
        return [reward for pair in scored for reward in pair][: len(rows)]
