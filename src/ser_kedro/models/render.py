"""Render all data once, and report what the chat template makes of them."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from ser_kedro.models.encode import Encoder
from ser_kedro.models.params import ModelParams
from ser_kedro.models.source import load_tokenizer
from ser_kedro.models.template import Opened, RefusedDialogue, knows_date
from ser_kedro.store.json_io import read_json, write_json
from ser_kedro.store.references import DocumentRef, TableRef
from ser_kedro.store.tables import read_table, write_document

# Prompts that are rendered at once; interrupted work goes on behind the last ones.
_CHUNK = 4096
_CHUNKS = "chunks"
_RESPONSES = (("response_a", "response_b"), ("chosen", "rejected"))
_COUNTS = ("rows", "system_turns_merged", "repeated_turns_merged", "answers_appended")
# No row is cut here.
_UNBOUNDED = 2**31 - 1
_SHOWN = 60


def render_parts(
    model: ModelParams,
    parts: Mapping[str, TableRef],
    vocabulary: TableRef,
    workspace: Path,
) -> DocumentRef:
    """Render all prompts and responses; begun work is resumed.

    Args:
        model: As of ``RenderJob``.
        parts: As there.
        vocabulary: As there.
        workspace: A folder of this work alone.

    Returns:
        The report.
    """
    encoder = Encoder(load_tokenizer(model, vocabulary), _UNBOUNDED)
    folder = workspace / _CHUNKS
    chunks = []
    total = sum(table.rows for table in parts.values())
    with tqdm(total=total, desc="rendering", unit="prompt", disable=None) as bar:
        for name, table in parts.items():
            for start, batch in _batches(table):
                file = folder / f"{name}-{start}.json"
                if not file.is_file():
                    write_json(file, _render(encoder, name, start, batch))
                chunks.append(read_json(file))
                bar.update(batch.num_rows)
    report = _report(encoder, model, parts, chunks)
    shutil.rmtree(folder, ignore_errors=True)
    return write_document(workspace, "template_report", report)


def _batches(table: TableRef) -> Iterator[tuple[int, pa.RecordBatch]]:
    start = 0
    for batch in read_table(table).to_batches(max_chunksize=_CHUNK):
        yield start, batch
        start += batch.num_rows


def _render(
    encoder: Encoder, part: str, start: int, batch: pa.RecordBatch
) -> dict[str, Any]:
    """Render the prompts of a batch, each with the responses that it has."""
    prompts, responses = batch["prompt"].to_pylist(), _responses(batch)
    counts: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    first = None
    rendered: list[Opened] = []
    texts: list[list[str]] = []
    for row, (prompt, answers) in enumerate(zip(prompts, responses, strict=True)):
        try:
            opened = encoder.open(prompt)
            texts.append(encoder.texts(opened, *answers))
        except RefusedDialogue as error:
            refused[error.reason] += 1
            first = first or _place(part, start + row, batch.slice(row, 1), prompt)
        else:
            rendered.append(opened)
            counts["rows"] += len(answers) or 1
            counts["system_turns_merged"] += opened.merged_system
            counts["repeated_turns_merged"] += opened.merged_turns
            counts["answers_appended"] += not opened.leads
    return {
        "counts": counts,
        "refused": refused,
        "first_refused": first,
        "tokens": _lengths(encoder, rendered, texts),
    }


def _responses(batch: pa.RecordBatch) -> list[tuple[str, ...]]:
    names = next((n for n in _RESPONSES if n[0] in batch.schema.names), None)
    if names is None:  # prompts alone
        return [()] * batch.num_rows
    return list(zip(*(batch[name].to_pylist() for name in names), strict=True))


def _lengths(
    encoder: Encoder, prompts: list[Opened], texts: list[list[str]]
) -> list[int]:
    """Return the tokens of each row, of the prompts where there are no answers."""
    if not texts or len(texts[0]) == 1:
        return [len(encoder.opened_ids(prompt)) for prompt in prompts]
    pairs = encoder.text_pairs(texts)
    return [len(pair.prompt) + len(tail) for pair in pairs for tail in (pair.a, pair.b)]


def _place(part: str, row: int, batch: pa.RecordBatch, prompt: Any) -> dict[str, Any]:
    named = "pair_id" if "pair_id" in batch.schema.names else "group"
    text = " ".join(prompt[-1]["content"].split()) if prompt else ""
    return {
        "part": part,
        "row": row,
        named: batch[named][0].as_py(),
        "prompt": text[:_SHOWN],
    }


def _report(
    encoder: Encoder,
    model: ModelParams,
    parts: Mapping[str, TableRef],
    chunks: list[dict[str, Any]],
) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    for chunk in chunks:
        counts.update(chunk["counts"])
        refused.update(chunk["refused"])
    tokens = np.concatenate([np.empty(0, int), *(chunk["tokens"] for chunk in chunks)])
    template = encoder.tokenizer.chat_template
    named = (chunk["first_refused"] for chunk in chunks if chunk["first_refused"])
    return {
        "template": "chat" if template else "plain",
        "date": model.template_date.isoformat() if knows_date(template) else None,
        "prompts": {name: table.rows for name, table in parts.items()},
        **{name: counts[name] for name in _COUNTS},
        "refused": dict(refused.most_common()),
        "first_refused": next(named, None),
        "tokens": _spread(tokens),
    }


def _spread(tokens: np.ndarray) -> dict[str, int] | None:
    if not len(tokens):
        return None
    figures = {"min": tokens.min(), "median": np.median(tokens), "max": tokens.max()}
    return {name: int(figure) for name, figure in figures.items()}
