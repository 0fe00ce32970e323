"""Supervised fine-tuning: the model that the reward model and the policy start from."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from datasets import Dataset
from trl import SFTConfig

from ser_kedro.errors import DataError, ModelError
from ser_kedro.launch import rank
from ser_kedro.models.encode import Encoder, EncodingCount, ensure_pad_token
from ser_kedro.models.last_layers import stop_gradients
from ser_kedro.models.lora import adapter_config, trained_model
from ser_kedro.models.memory_use import out_of_memory
from ser_kedro.models.params import Kind, ModelParams
from ser_kedro.models.precision import bf16_untried, uses_bf16
from ser_kedro.models.source import load_start, start_of
from ser_kedro.models.speed_trial import Use
from ser_kedro.models.zero3 import is_zero3_enabled
from ser_kedro.store.references import TableRef
from ser_kedro.store.tables import read_table, write_table
from ser_kedro.training.arguments import training_arguments
from ser_kedro.training.batches import column_lengths
from ser_kedro.training.micro_batches import tokens_that_fit
from ser_kedro.training.params import SftParams
from ser_kedro.training.run import train
from ser_kedro.training.sft_trainer import NO_LOSS, SerSftTrainer

logger = logging.getLogger(__name__)

ROWS = pa.schema(
    [("input_ids", pa.list_(pa.int32())), ("labels", pa.list_(pa.int32()))]
)


def fine_tune(
    start: ModelParams,
    pairs: TableRef,
    pool: TableRef | None,
    params: SftParams,
    seed: int,
    workspace: Path,
) -> tuple[Kind, dict[str, float]]:
    """Fine-tune a model, or pass it on, and write it to ``<workspace>/model``.

    Begun work in the workspace is resumed; all ranks of a launch work together.

    Args:
        start: As of ``SftJob``.
        pairs: As there.
        pool: As there.
        params: As there.
        seed: As there.
        workspace: A folder of this training alone.

    Returns:
        What kind of model it is, and what was measured: steps, losses, counts of pairs;
        nothing if it was passed on.

    Raises:
        DataError: If no pair fits ``max_length``.
        ModelError: If the model cannot be loaded, reads less than a row, or cannot be
            had as ``params.when`` says.
    """
    while True:
        try:
            return _fine_tune(start, pairs, pool, params, seed, workspace)
        except TooLarge as error:
            logger.warning("%s", error)
            params = params.model_copy(update={"micro_batch_size": error.rows // 2})


class TooLarge(ModelError):
    """The memory does not hold a forward pass of so many rows."""

    def __init__(self, rows: int) -> None:
        """Say what happens next."""
        self.rows = rows
        super().__init__(
            f"sft: out of memory; starting anew with {rows // 2} rows a forward pass"
        )


def _fine_tune(
    start: ModelParams,
    pairs: TableRef,
    pool: TableRef | None,
    params: SftParams,
    seed: int,
    workspace: Path,
) -> tuple[Kind, dict[str, float]]:
    epochs = _epochs(pairs, pool, params)
    begin = partial(_arguments, params, epochs, seed, workspace)
    # Where ranks share a model out, they must know before they load it.
    arguments = begin(bf16_untried(params.precision)) if rank.is_launched() else None
    torch.manual_seed(seed)  # a new pad token's embedding is drawn
    model, tokenizer, kind = load_start(start, pairs, params.max_length, seed)
    if is_zero3_enabled():
        torch.manual_seed(seed)  # to take a model apart draws numbers too
    ensure_pad_token(tokenizer, model)
    metrics: dict[str, float] = {}
    chosen = start_of(start, kind, params.when, tokenizer)
    logger.info("%s: %s", start.name, chosen)
    if chosen.trained:
        encoder = Encoder(tokenizer, params.max_length)
        if arguments is None:
            use = Use(
                "sft", params.max_length, params.lora, params.gradient_checkpointing
            )
            arguments = begin(uses_bf16(params.precision, model.config, use))
        model, metrics = _train(
            model, encoder, arguments, pairs, pool, params, workspace
        )
    else:
        _say_unused(start, pairs, params)
    folder = workspace / "model"
    if rank.is_main() or is_zero3_enabled():
        model.save_pretrained(folder)
    if rank.is_main():
        tokenizer.save_pretrained(folder)
        shutil.rmtree(workspace / "trainer", ignore_errors=True)
        (workspace / "encoded.arrow").unlink(missing_ok=True)
    return kind, metrics


def _say_unused(start: ModelParams, pairs: TableRef, params: SftParams) -> None:
    logger.info(
        "%s: pairs of the SFT part that are not used: %s; with a smaller"
        " data_split.sft_share the reward model gets more of them",
        start.name,
        f"{pairs.rows:,}",
    )
    if params.choices:
        logger.warning(
            "%s: no effect, since SFT is skipped; sft.when=always trains a language"
            " model in any case",
            ", ".join(params.choices),
        )


def _arguments(
    params: SftParams, epochs: float, seed: int, workspace: Path, bf16: bool
) -> Any:
    share = math.ceil(params.batch_size / rank.world_size())
    micro = min(params.micro_batch_size or share, share)
    return training_arguments(
        SFTConfig,
        params,
        workspace,
        seed,
        bf16=bf16,
        num_train_epochs=epochs,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=math.ceil(share / micro),
        completion_only_loss=True,
    )


def _epochs(pairs: TableRef, pool: TableRef | None, params: SftParams) -> float:
    """Return the passes over the rows: more of them where the pool is a control."""
    if params.pool != "steps" or pool is None:
        return params.epochs
    own = pairs.rows * (2 if params.target == "both" else 1)
    return params.epochs * (own + 2 * pool.rows) / own


def _train(
    model: Any,
    encoder: Encoder,
    arguments: Any,
    pairs: TableRef,
    pool: TableRef | None,
    params: SftParams,
    workspace: Path,
) -> tuple[Any, dict[str, float]]:
    counts = EncodingCount()
    if rank.is_main():
        batches = _encode(encoder, pairs, pool, params, counts)
        write_table(workspace, "encoded", batches, ROWS)
        if not counts.kept:
            raise DataError(
                f"sft: none of {counts.rows} pairs is left after encoding"
                f" ({counts.overlong} above max_length={params.max_length});"
                " raise sft.max_length"
            )
    rank.barrier()
    rows = Dataset.from_file(str(workspace / "encoded.arrow"))
    if params.micro_batch_size is None and not arguments.deepspeed:
        _fit_memory(model, rows, arguments, adapted=params.lora is not None)
    adapters = adapter_config(params.lora, "CAUSAL_LM", model)
    stop_gradients(model, params.lora)
    trainer = SerSftTrainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        processing_class=encoder.tokenizer,
        peft_config=adapters,
        batch_size=params.batch_size,
    )
    try:
        metrics = train(trainer, workspace, "sft")
    except Exception as error:
        if out_of_memory(error):
            raise _smaller(arguments.per_device_train_batch_size) from None
        raise
    adapter = workspace / "adapter" if params.keep_adapter else None
    return trained_model(trainer, adapter), {**metrics, **counts.as_metrics()}


def _smaller(rows: int) -> ModelError:
    """Return what to raise where the memory does not hold a pass of ``rows`` rows."""
    if rows > 1 and rank.world_size() == 1:
        return TooLarge(rows)
    return ModelError(
        "sft: out of memory; lower sft.micro_batch_size or sft.max_length, set"
        " sft.gradient_checkpointing, or train adapters (sft.lora)"
    )


def _fit_memory(model: Any, rows: Dataset, arguments: Any, *, adapted: bool) -> None:
    """Let a forward pass have as many rows as the memory holds, up to all of a step."""
    model.to(arguments.device)
    longest = int(column_lengths(rows, "input_ids").max())

    def loss(copies: int) -> torch.Tensor:
        ids = torch.full((copies, longest), 1, device=arguments.device)
        device = arguments.device.type
        with torch.autocast(device, torch.bfloat16, enabled=arguments.bf16):
            return model(input_ids=ids, labels=ids, use_cache=False).loss

    fit = max(1, tokens_that_fit(model, loss, longest, adapted=adapted) // longest)
    step = arguments.per_device_train_batch_size
    arguments.per_device_train_batch_size = min(fit, step)
    arguments.gradient_accumulation_steps = math.ceil(step / min(fit, step))


def _encode(
    encoder: Encoder,
    pairs: TableRef,
    pool: TableRef | None,
    params: SftParams,
    counts: EncodingCount,
) -> Iterator[pa.RecordBatch]:
    both = params.target == "both"
    tables = [(pairs, ("chosen", "rejected"), both)]
    if params.pool == "text" and pool is not None:
        tables.append((pool, ("response_a", "response_b"), True))
    for table, names, of_both in tables:
        for batch in read_table(table).to_batches(1024):
            rows = batch.select(["prompt", *names]).to_pydict()
            yield _encode_batch(encoder, rows, names, of_both, params, counts)


def _encode_batch(
    encoder: Encoder,
    rows: dict[str, list[Any]],
    names: tuple[str, str],
    both: bool,
    params: SftParams,
    counts: EncodingCount,
) -> pa.RecordBatch:
    # In an order of their own, so that no label shows in the order of rows.
    responses = [
        sorted(pair) if both else (pair[0], pair[0])
        for pair in zip(*(rows[name] for name in names), strict=True)
    ]
    one, other = zip(*responses, strict=True)
    ids: list[list[int]] = []
    labels: list[list[int]] = []
    for pair in encoder.pairs(rows["prompt"], one, other):
        if not counts.admit(pair, params.overlong, compared=False):
            continue
        for response in (pair.a, pair.b) if both else (pair.a,):
            ids.append(pair.prompt + response)
            labels.append([NO_LOSS] * len(pair.prompt) + response)
    arrays = [pa.array(ids, ROWS.types[0]), pa.array(labels, ROWS.types[1])]
    return pa.RecordBatch.from_arrays(arrays, schema=ROWS)
