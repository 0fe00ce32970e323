"""Answers of a language model to prompts that nothing was trained on."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from tqdm import tqdm
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from ser_kedro.models.device import device
from ser_kedro.models.encode import Encoder
from ser_kedro.models.reward_model import from_pretrained
from ser_kedro.policy.actor_critic import ActorCritic
from ser_kedro.policy.batch import collate
from ser_kedro.policy.generate import ends_of, sample, writing_precision
from ser_kedro.policy.ppo_params import PpoParams
from ser_kedro.preferences.schema import PROMPT
from ser_kedro.store.references import TableRef
from ser_kedro.store.tables import read_table, reorder, write_table

ANSWERS = pa.schema(
    [
        ("group", pa.string()),
        ("prompt", PROMPT),
        ("response", pa.string()),
        ("tokens", pa.int64()),
        ("ended", pa.bool_()),
        ("kl", pa.float64()),
    ]
)


def write_answers(
    model: Path,
    start: Path,
    prompts: TableRef,
    count: int,
    batch_size: int,
    params: PpoParams,
    seed: int,
    workspace: Path,
) -> TableRef:
    """Let a policy answer prompts, one of each group; write a table of ``ANSWERS``.

    Args:
        model: Folder of the policy.
        start: Folder of the model that it was trained from.
        prompts: As of ``AnswersJob``.
        count: As there.
        batch_size: As there.
        params: As there.
        seed: As there.
        workspace: Where to write.
    """
    table = read_table(prompts).select(["group", "prompt"])
    places = _places(table, count, seed)
    batches = _answer(model, start, table, places, batch_size, params, seed)
    return write_table(workspace, "answers", batches, ANSWERS)


def _answer(
    model: Path,
    start: Path,
    table: pa.Table,
    places: list[int],
    batch_size: int,
    params: PpoParams,
    seed: int,
) -> Iterator[pa.RecordBatch]:
    where = device()
    dtype = writing_precision(from_pretrained(AutoConfig, model), params)
    policy, reference = (
        from_pretrained(AutoModelForCausalLM, place, dtype=dtype)
        for place in (model, start)
    )
    actor = ActorCritic(policy, reference).to(where).eval()
    tokenizer = from_pretrained(AutoTokenizer, model)
    encoder = Encoder(tokenizer, params.max_prompt_length)
    eos, pad = ends_of(policy, tokenizer), int(tokenizer.pad_token_id or 0)
    torch.manual_seed(seed)
    batches = tqdm(
        reorder(table, places, batch_size),
        total=math.ceil(len(places) / batch_size),
        desc="answers",
        unit="batch",
        disable=None,
    )
    for rows in batches:
        ids = [encoder.prompt_ids(prompt) for prompt in rows["prompt"].to_pylist()]
        empty = collate(ids, [[]] * len(ids), pad, where)
        answers = sample(policy, empty, params, eos)
        kl = actor.kl(collate(ids, answers, pad, where), params.temperature)
        texts = tokenizer.batch_decode(answers, skip_special_tokens=True)
        columns: list[Any] = [
            rows["group"],
            rows["prompt"],
            [text.strip() for text in texts],
            [len(answer) for answer in answers],
            [answer[-1] in eos for answer in answers],
            kl.sum(1).tolist(),
        ]
        yield pa.RecordBatch.from_arrays(
            [
                column if isinstance(column, pa.Array) else pa.array(column, field.type)
                for column, field in zip(columns, ANSWERS, strict=True)
            ],
            schema=ANSWERS,
        )


def _places(table: pa.Table, count: int, seed: int) -> list[int]:
    """Return row numbers: some groups, at random, each with its first row."""
    _, first = np.unique(table["group"].to_pylist(), return_index=True)
    drawn = np.random.default_rng(seed).permutation(first)
    return [int(place) for place in drawn[:count]]
