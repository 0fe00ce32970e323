"""Answers to the prompts of a pool, sampled from a language model."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from tqdm import tqdm
from transformers import AutoModelForCausalLM, AutoTokenizer

from ser_kedro.errors import DataError, ModelError
from ser_kedro.models.device import device
from ser_kedro.models.encode import Encoder
from ser_kedro.models.params import ModelParams
from ser_kedro.models.reward_model import check_window, from_pretrained
from ser_kedro.models.source import load_start
from ser_kedro.policy.batch import collate
from ser_kedro.policy.generate import ends_of, sample, writing_precision
from ser_kedro.policy.pool_params import PoolParams
from ser_kedro.preferences.formats.answers import Answers
from ser_kedro.preferences.keyed import keyed_hash
from ser_kedro.preferences.records import BadRow
from ser_kedro.preferences.schema import PROMPT, UNLABELED, Message
from ser_kedro.store.references import TableRef
from ser_kedro.store.tables import map_table, read_table, write_table

logger = logging.getLogger(__name__)

POOL_ANSWERS = pa.schema(
    [
        ("group", pa.string()),
        ("prompt", PROMPT),
        ("response", pa.string()),
        ("tokens", pa.int64()),
        ("ended", pa.bool_()),
    ]
)
_SOURCE = "sampled"


def answer_pool(
    model: Path | ModelParams,
    prompts: TableRef,
    params: PoolParams,
    seed: int,
    workspace: Path,
) -> tuple[TableRef, TableRef]:
    """Answer prompts and form pairs of the answers.

    Args:
        model: Folder of one of the project's language models, or any other model.
        prompts: As of ``AnswerPoolJob``.
        params: As there.
        seed: As there.
        workspace: Where to write; finished chunks in it are kept.

    Returns:
        Tables of ``POOL_ANSWERS`` and of ``UNLABELED``.

    Raises:
        DataError: If no prompt has two different answers.
        ModelError: If the model cannot be loaded, is no language model, or reads less
            than a prompt and its answer.
    """
    table = read_table(prompts).select(["group", "prompt"])
    folder = workspace / "chunks"
    folder.mkdir(exist_ok=True)
    writer: _Writer | None = None
    chunks = range(0, table.num_rows, params.chunk_size)
    bar = tqdm(chunks, desc="answers", unit="chunk", disable=None)
    for number, start in enumerate(bar):
        name = f"chunk_{number:06d}"
        if (folder / f"{name}.arrow").is_file():
            continue
        if writer is None:
            writer = _Writer(model, prompts, params)
        rows = table.slice(start, params.chunk_size)
        # A name that is there stands for a whole chunk.
        begun = write_table(
            folder, f"begun_{name}", [writer.write(rows, seed, number)], POOL_ANSWERS
        )
        (folder / begun.path).replace(folder / f"{name}.arrow")
        logger.info("%d of %d chunks of prompts answered", number + 1, len(chunks))
    answers = write_table(workspace, "answers", _stored(folder), POOL_ANSWERS)
    pairs = write_table(
        workspace, "pairs", _pairs(workspace / answers.path, params), UNLABELED
    )
    if not pairs.rows:
        raise DataError(
            f"pool: none of {table.num_rows:,} prompts has two different answers; raise"
            " pool.temperature, or give another pool.model"
        )
    shutil.rmtree(folder)
    return answers, pairs


class _Writer:
    """A loaded language model that answers prompts."""

    def __init__(
        self, model: Path | ModelParams, prompts: TableRef, params: PoolParams
    ) -> None:
        self._params = params
        self._device = device()
        length = params.max_prompt_length + params.max_new_tokens
        if isinstance(model, Path):  # its template and its date are pinned already
            loaded = from_pretrained(AutoModelForCausalLM, model, dtype=torch.float32)
            tokenizer = from_pretrained(AutoTokenizer, model)
            check_window(loaded.config, length, "pool")
        else:
            loaded, tokenizer, kind = load_start(model, prompts, length, 0, "pool")
            if kind != "language_model":
                raise ModelError(
                    f"pool.model={model.name}: no language model; give one"
                )
        dtype = writing_precision(loaded.config, params)
        self._model = loaded.eval().to(self._device, dtype)
        self._tokenizer = tokenizer
        self._encoder = Encoder(tokenizer, params.max_prompt_length)
        self._eos = ends_of(self._model, tokenizer)
        pad = tokenizer.pad_token_id
        self._pad = int(next(iter(sorted(self._eos)), 0) if pad is None else pad)

    def write(self, rows: pa.Table, seed: int, chunk: int) -> pa.RecordBatch:
        """Return the answers to some prompts, all to one prompt together."""
        # Of its own for each chunk, so that a resumed run draws the same.
        torch.manual_seed(keyed_hash(seed, "pool", str(chunk)))
        columns: dict[str, list[Any]] = {name: [] for name in POOL_ANSWERS.names}
        for batch in rows.to_batches(self._params.batch_size):
            listed = batch.to_pylist()
            count = self._params.responses
            several = [row for row in listed for _ in range(count)]
            prompts = [self._encoder.prompt_ids(row["prompt"]) for row in listed]
            empty = collate(prompts, [[]] * len(prompts), self._pad, self._device)
            answers = sample(self._model, empty, self._params, self._eos, count)
            texts = self._tokenizer.batch_decode(answers, skip_special_tokens=True)
            columns["group"] += [row["group"] for row in several]
            columns["prompt"] += [row["prompt"] for row in several]
            columns["response"] += [text.strip() for text in texts]
            columns["tokens"] += [len(answer) for answer in answers]
            columns["ended"] += [answer[-1] in self._eos for answer in answers]
        return pa.RecordBatch.from_pydict(columns, POOL_ANSWERS)


def _stored(folder: Path) -> Iterator[pa.RecordBatch]:
    for path in sorted(folder.glob("chunk_*.arrow")):
        yield from map_table(path).to_batches()


def _pairs(path: Path, params: PoolParams) -> Iterator[pa.RecordBatch]:
    """Yield the pairs of each prompt; none where all its answers are alike."""
    table = map_table(path)
    step = params.responses * params.chunk_size
    for start in range(0, table.num_rows, step):
        rows = table.slice(start, step).to_pylist()
        found: list[dict[str, Any]] = []
        for first in range(0, len(rows), params.responses):
            found += _pairs_of(rows[first : first + params.responses], params)
        if found:
            yield pa.RecordBatch.from_pylist(found, UNLABELED)


def _pairs_of(rows: list[dict[str, Any]], params: PoolParams) -> list[dict[str, Any]]:
    prompt = tuple(Message(**turn) for turn in rows[0]["prompt"])
    texts = tuple(row["response"] for row in rows)
    try:
        pairs = list(Answers(prompt, texts, None).unlabelled(params.pairs_per_prompt))
    except BadRow:
        return []
    return [
        {
            "pair_id": pair.pair_id,
            "group": rows[0]["group"],
            "prompt": rows[0]["prompt"],
            "response_a": pair.chosen,
            "response_b": pair.rejected,
            "source": _SOURCE,
        }
        for pair in pairs
    ]
