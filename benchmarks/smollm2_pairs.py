"""SmolLM2-135M as a reward model, and the HH pairs that all its contenders read."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import pairs

if TYPE_CHECKING:
    from datasets import Dataset

    from ser_kedro.models.encode import EncodedPair

NAME = "SmolLM2-135M"
FOLDER = pairs.BUILD / "smollm2"
MODEL = FOLDER / "model"
# Attention in groups: 9 heads of queries share 3 of keys and values.
SIZE = pairs.Size(layers=30, hidden=576, intermediate=1536, heads=9, kv_heads=3)
ROPE_THETA = 100_000.0
# Optimiser steps of a repetition. How long pairs are decides how fast they are, so all
# contenders read the same ones, whole.
STEPS = 3
PAIRS = STEPS * pairs.BATCH_SIZE
PRECISIONS = ("fp32", "bf16")


def prepare() -> None:
    """Convert the model and encode the pairs with its tokenizer and template, once."""
    if FOLDER.is_dir():
        return
    from transformers import AutoModelForCausalLM

    from ser_kedro.errors import ModelError
    from ser_kedro.models.encode import Encoder
    from ser_kedro.models.gguf_place import SMOLLM2
    from ser_kedro.models.params import ModelParams
    from ser_kedro.models.reward_model import from_pretrained, load_reward_model
    from ser_kedro.models.source import load_tokenizer

    partial = FOLDER.with_suffix(".partial")
    start = partial / "language_model"
    try:
        from_pretrained(AutoModelForCausalLM, SMOLLM2).save_pretrained(start)
    except ModelError as error:  # not installed: make smollm2
        sys.exit(f"benchmarks: {error}")
    load_tokenizer(ModelParams(name=SMOLLM2)).save_pretrained(start)
    model, words = load_reward_model(start, seed=0)
    shutil.rmtree(start)
    model.save_pretrained(partial / MODEL.name)
    words.save_pretrained(partial / MODEL.name)
    rows = json.loads((pairs.BUILD / "train.json").read_text("utf-8"))
    useful = [
        ([pair.prompt, pair.a, pair.b], text)
        for pair, text in zip(
            Encoder(words, pairs.MAX_LENGTH).pairs(*zip(*rows, strict=True)),
            rows,
            strict=True,
        )
        if not pair.equal
    ]
    for name, column in zip(("ids", "texts"), zip(*useful, strict=True), strict=True):
        (partial / f"{name}.json").write_text(json.dumps(column), "utf-8")
    partial.rename(FOLDER)


def new_model(dtype: Any = None) -> Any:
    """Return the reward model: weights of SmolLM2, and a head that was drawn once.

    Args:
        dtype: Of the weights; ``None``: fp32.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    return AutoModelForSequenceClassification.from_pretrained(
        MODEL, dtype=dtype or torch.float32
    )


def tokenizer() -> Any:
    """Return its tokenizer."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(MODEL)


def texts() -> list[Any]:
    """Return all training pairs as text: prompt, chosen and rejected."""
    rows: list[Any] = json.loads((FOLDER / "texts.json").read_text("utf-8"))
    return rows


def everything() -> list[EncodedPair]:
    """Return the same, encoded."""
    from ser_kedro.models.encode import EncodedPair

    rows = json.loads((FOLDER / "ids.json").read_text("utf-8"))
    return [EncodedPair(*row, overlong=False) for row in rows]


def drawn(seed: int) -> list[int]:
    """Return which pairs a repetition works through, the same for contenders.

    They are whole batches as TRL groups them by length among all pairs, spread evenly
    from long to short: grouping within so few pairs would pad more than it does among
    all of them.
    """
    order = grouped(everything(), seed)
    # One stretch of 50 batches, sorted by length as a whole.
    stretch = np.array(order[: 50 * pairs.BATCH_SIZE]).reshape(50, -1)
    places = ((np.arange(STEPS) + 0.5) / STEPS * 50).astype(int)
    chosen: list[int] = stretch[places].flatten().tolist()
    return chosen


def typical(seed: int, size: int, *, cut: bool = True) -> list[int]:
    """Return random pairs, as many, that are padded as random ones among all pairs are.

    What ``drawn`` gives lacks the longest pairs, to which most random batches are
    padded, so that it would cost random batches too little.

    Args:
        seed: Draws the order.
        size: Pairs of a pass.
        cut: Among them are pairs that were cut to ``MAX_LENGTH``.
    """
    costs = np.array(longest(everything()))
    order = np.random.default_rng(seed).permutation(len(costs))
    if not cut:
        order = order[costs[order] < pairs.MAX_LENGTH]
    stretches = order[: len(order) // PAIRS * PAIRS].reshape(-1, PAIRS)
    padded = [costs[s].reshape(-1, size).max(1).mean() for s in stretches]
    nearest = np.abs(np.array(padded) - np.mean(padded)).argmin()
    chosen: list[int] = stretches[nearest].tolist()
    return chosen


def grouped(rows: Sequence[EncodedPair], seed: int) -> list[int]:
    """Return the order in which transformers reads pairs grouped by length."""
    import torch
    from transformers.trainer_pt_utils import LengthGroupedSampler

    torch.manual_seed(seed)
    return list(LengthGroupedSampler(pairs.BATCH_SIZE, lengths=longest(rows)))


def lengths(rows: Sequence[EncodedPair]) -> np.ndarray:
    """Return tokens of prompt, chosen and rejected of each pair, shape ``(n, 3)``."""
    return np.array([[len(row.prompt), len(row.a), len(row.b)] for row in rows])


def longest(rows: Sequence[EncodedPair]) -> list[int]:
    """Return the tokens of the longer whole row of each pair: what TRL pads to."""
    return [len(row.prompt) + max(len(row.a), len(row.b)) for row in rows]


def split(rows: Sequence[EncodedPair]) -> Dataset:
    """Return pairs as our trainer reads them."""
    from datasets import Dataset

    return Dataset.from_dict(pairs.split(rows))


def whole(rows: Sequence[EncodedPair]) -> Dataset:
    """Return pairs as TRL reads them: each response behind its own prompt."""
    from datasets import Dataset

    return Dataset.from_dict(pairs.whole(rows))
