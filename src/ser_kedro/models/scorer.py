"""Rewards of encoded pairs: the one way in which a reward model is applied."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import pyarrow as pa
import torch

from ser_kedro.errors import ModelError
from ser_kedro.launch.rank import is_main
from ser_kedro.models import pack
from ser_kedro.models.device import device
from ser_kedro.models.encode import EncodedPair, Encoder, Messages
from ser_kedro.models.half import halve, hold_bf16
from ser_kedro.models.memory_use import out_of_memory
from ser_kedro.models.pack import Packing, Row
from ser_kedro.models.params import Scoring
from ser_kedro.models.precision import uses_bf16
from ser_kedro.models.reward_model import load_reward_model
from ser_kedro.models.speed_trial import Use
from ser_kedro.models.zero3 import Zero3Model, initialize, is_zero3_enabled

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

# Pairs that are encoded and sorted by length together.
SHARD = 2048
# What a save and a load may change: rounding, by the precision of the weights.
_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}
# A seed that no training has: a lost head must not be drawn again as it was.
_RELOAD_SEED = 2**63 - 25
# Attention costs the square of a row: a row takes responses up to this many tokens,
# and two in any case.
_ROW_TOKENS = 1024
_COLUMNS = (("response_a", "response_b"), ("chosen", "rejected"))


@dataclass
class Scorer:
    """A reward model with all that it takes to apply it.

    Attributes:
        model: The model, in evaluation mode; in parts, all ranks must score.
        encoder: How its rows are encoded.
        packing: Whether its rows are packed.
        tokens: Padded tokens of one forward pass; halved where memory runs out.
        bf16: Compute under bf16 autocast, the head apart.
    """

    model: PreTrainedModel | Zero3Model
    encoder: Encoder
    packing: Packing
    tokens: int
    bf16: bool = False

    @classmethod
    def load(cls, folder: Path, scoring: Scoring, *, finely: bool = False) -> Self:
        """Load a reward model from its folder.

        Args:
            folder: A Hugging Face folder.
            scoring: How it is applied.
            finely: As of ``of``.
        """
        model, tokenizer = load_reward_model(folder, seed=0)
        return cls.of(model, tokenizer, scoring, finely=finely)

    @classmethod
    def of(
        cls,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        scoring: Scoring,
        *,
        finely: bool = False,
    ) -> Self:
        """Make a loaded model ready to score, on a GPU where there is one.

        It is changed, and trains no more.

        Args:
            model: In fp32, on any device.
            tokenizer: The model's.
            scoring: How it is applied.
            finely: Where it computes in bf16, do so under autocast, which is slower and
                rounds less: for what is computed once and kept.
        """
        if not is_zero3_enabled():
            model.to(device())  # type: ignore[arg-type]
        encoder = Encoder(tokenizer, scoring.max_length)
        finely |= is_zero3_enabled()
        use = Use("scoring" if finely else "labelling", scoring.max_length)
        bf16 = uses_bf16(scoring.precision, model.config, use)
        settle = partial(halve, model.base_model) if bf16 and not finely else None
        choice = pack.enable(model, wanted=scoring.packing, bf16=bf16, settle=settle)
        if is_zero3_enabled():
            return cls(initialize(model), encoder, choice, scoring.score_tokens, bf16)
        if settle is not None:
            settle()  # where packing was not tried
        elif bf16:
            hold_bf16(model.base_model)
        autocast = bf16 and finely
        return cls(model, encoder, choice, scoring.score_tokens, autocast)

    def settled(self) -> Self:
        """Return it with the weights that ``of`` would give it, for scoring alone.

        The model must not be trained or saved after that.
        """
        if not self.bf16 or isinstance(self.model, Zero3Model):
            return self
        halve(self.model.base_model)
        return replace(self, bf16=False)

    def table_rewards(self, table: pa.Table) -> np.ndarray:
        """Return the rewards of the pairs of a table, shape ``(n, 2)``, float32."""
        batches = table.to_batches(max_chunksize=SHARD)
        parts = [self.batch_rewards(batch) for batch in batches]
        return np.concatenate([np.empty((0, 2), np.float32), *parts])

    def batch_rewards(self, batch: pa.RecordBatch) -> np.ndarray:
        """Return the same for a batch that is encoded at once."""
        names = next(pair for pair in _COLUMNS if pair[0] in batch.schema.names)
        columns = batch.select(["prompt", *names]).to_pydict()
        return self.rewards(self.encoder.pairs(*columns.values()))

    def text_rewards(
        self, prompts: Sequence[Messages], responses: Sequence[str]
    ) -> list[float]:
        """Return the reward of each response to its prompt, empty responses too.

        Args:
            prompts: ``n`` dialogues.
            responses: ``n`` responses.
        """
        pairs = self.encoder.pairs(prompts, responses, responses)
        rewards: list[float] = self.rewards(pairs)[:, 0].tolist()
        return rewards

    def rewards(self, pairs: Sequence[EncodedPair]) -> np.ndarray:
        """Return the rewards of encoded pairs, shape ``(n, 2)``, float32."""
        return self.outputs(pairs).reshape(-1, 2)

    def outputs(self, pairs: Sequence[EncodedPair]) -> np.ndarray:
        """Return what the head gives for encoded pairs, shape ``(n, 2, width)``.

        Responses to one prompt share its row, equal ones are scored once, and rows of
        like length share a batch. The width of a reward is 1.
        """
        rows, places = _rows(pairs, self.packing)
        outputs: list[list[np.ndarray]] = [[] for _ in rows]
        for packed in (True, False):
            chosen = [
                i
                for i, row in enumerate(rows)
                if self.packing.fits(_length(row)) is packed
            ]
            costs = [_length(rows[i]) for i in chosen]
            for batch in pack.cut(costs, self.tokens):
                group = [chosen[i] for i in batch]
                values = iter(self._passes([rows[i] for i in group], packed))
                for i in group:
                    outputs[i] = [next(values) for _ in rows[i].tails]
        flat = [[outputs[row][tail] for row, tail in pair] for pair in places]
        return np.array(flat, np.float32)

    def join(self) -> None:
        """Help the other ranks to finish, where each holds a part of the model."""
        if isinstance(self.model, Zero3Model):
            self.model.join()

    def _passes(self, rows: list[Row], packed: bool) -> Iterator[np.ndarray]:
        """Yield what the head gives for rows of like length, in as few passes as fit.

        Raises:
            ModelError: If the memory does not hold a single row.
        """
        done = 0
        while done < len(rows):
            # As an earlier pass has found out.
            most = max(1, self.tokens // _length(rows[-1]))
            part = rows[done : done + most]
            try:
                values = self._forward(part, packed)
            except Exception as error:
                if not out_of_memory(error):
                    raise
                self._halve(part, error)
                continue
            yield from values
            done += len(part)

    def _halve(self, rows: list[Row], error: Exception) -> None:
        if len(rows) == 1 or isinstance(self.model, Zero3Model):
            raise ModelError(
                "scoring: out of memory; lower reward.score_tokens or reward.max_length"
            ) from error
        self.tokens = len(rows) * _length(rows[-1]) // 2
        logger.warning("Out of memory: going on with passes of %d tokens", self.tokens)

    @torch.inference_mode()
    def _forward(self, rows: list[Row], packed: bool) -> np.ndarray:
        device = self.model.device
        pad = self.encoder.tokenizer.pad_token_id
        inputs = pack.collate(rows, pad, packed=packed)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
            logits = self.model(**{k: v.to(device) for k, v in inputs.items()}).logits
        count = sum(len(row.tails) for row in rows)
        return logits.float().reshape(count, -1).cpu().numpy()


def _length(row: Row) -> int:
    return len(row.prompt) + sum(map(len, row.tails))


def _rows(
    pairs: Sequence[EncodedPair], packing: Packing
) -> tuple[list[Row], list[list[tuple[int, int]]]]:
    """Return distinct rows, and for each pair the row and tail of its two responses."""
    rows: list[Row] = []
    open_rows: dict[tuple[int, ...], int] = {}
    seen: dict[tuple[tuple[int, ...], tuple[int, ...]], tuple[int, int]] = {}
    places = []
    for pair in pairs:
        key = tuple(pair.prompt)
        place = []
        for tail in (pair.a, pair.b):
            found = seen.get((key, tuple(tail)))
            if found is None:
                row = open_rows.get(key)
                if row is None or not _has_room(rows[row], tail, packing):
                    row = open_rows[key] = len(rows)
                    rows.append(Row(pair.prompt, []))
                rows[row].tails.append(tail)
                found = seen[key, tuple(tail)] = (row, len(rows[row].tails) - 1)
            place.append(found)
        places.append(place)
    return rows, places


def _has_room(row: Row, tail: list[int], packing: Packing) -> bool:
    tokens = _length(row) + len(tail)
    return packing.fits(tokens) and (len(row.tails) == 1 or tokens <= _ROW_TOKENS)


def save_checked(scorer: Scorer, folder: Path, sample: Sequence[EncodedPair]) -> float:
    """Save a reward model, load it again and compare the rewards of a sample.

    What was loaded reads plain rows, as others will read it. A model in parts is saved
    and compared by all ranks, any other by rank 0.

    Args:
        scorer: The trained model, without adapters.
        folder: Where to.
        sample: A few encoded pairs, at least one.

    Returns:
        The largest absolute difference of a reward, before and after.

    Raises:
        ModelError: If what was saved scores otherwise than what was trained (a head
            that was not saved, weights left out).
    """
    model, encoder = scorer.model, scorer.encoder
    exactly = replace(scorer, bf16=False)
    before = exactly.rewards(sample)
    if is_main():
        encoder.tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    reloaded, _ = load_reward_model(folder, seed=_RELOAD_SEED)
    plain = Packing(False, "as others read it")
    ready = initialize(reloaded) if is_zero3_enabled() else reloaded.to(model.device)
    loaded = replace(exactly, model=ready, packing=plain)
    after = loaded.rewards(sample)
    # Infinite or NaN, it has no distance; its calibration will refuse it.
    whole = np.isfinite(before).all()
    gap = float(abs(before - after).max()) if whole else 0.0
    limit = _TOLERANCE[model.dtype] * max(1.0, float(abs(before).max()))
    if not gap <= limit:
        raise ModelError(
            f"{folder}: the saved model scores {gap:.2g} away from the trained one;"
            " part of it was not saved (with LoRA: is the head among the trained"
            " modules?)"
        )
    return gap
