"""Train a reward model, every weight of it or adapters."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset
from transformers import AutoConfig
from trl import RewardConfig
from trl.trainer.utils import disable_dropout_in_model

from ser_kedro.errors import DataError
from ser_kedro.launch import rank
from ser_kedro.models import pack
from ser_kedro.models.encode import Encoder, EncodingCount
from ser_kedro.models.fit_calibration import calibrate_model
from ser_kedro.models.last_layers import stop_gradients
from ser_kedro.models.lora import adapter_config, trained_model
from ser_kedro.models.pack import Packing
from ser_kedro.models.precision import uses_bf16
from ser_kedro.models.reward_model import (
    check_window,
    drop_features,
    from_pretrained,
    load_reward_model,
)
from ser_kedro.models.scorer import Scorer, save_checked
from ser_kedro.models.speed_trial import Use
from ser_kedro.models.zero3 import is_zero3_enabled
from ser_kedro.store.references import AnyTable, ModelRef, TableRef
from ser_kedro.store.tables import read_table, write_table
from ser_kedro.training.arguments import training_arguments
from ser_kedro.training.batches import PairSteps, said_of
from ser_kedro.training.language_loss import LanguageLoss, language_loss
from ser_kedro.training.micro_batches import MOST
from ser_kedro.training.packing_check import check_packing
from ser_kedro.training.params import RewardParams
from ser_kedro.training.reward_trainer import SerRewardTrainer
from ser_kedro.training.run import train

logger = logging.getLogger(__name__)

_SAMPLE = 8

IDS = pa.list_(pa.int32())
ENCODED = pa.schema(
    [
        ("prompt_ids", IDS),
        ("chosen_ids", IDS),
        ("rejected_ids", IDS),
        ("weight", pa.float32()),
        ("soft_label", pa.float32()),
        ("margin", pa.float32()),
    ]
)


def train_reward(
    start: ModelRef,
    pairs: Sequence[AnyTable],
    validation: TableRef,
    pool: TableRef | None,
    params: RewardParams,
    seed: int,
    workspace: Path,
) -> dict[str, float]:
    """Train a reward model and write it to ``<workspace>/model``.

    Begun work in the workspace is resumed; all ranks of a launch work together.

    Args:
        start: As of ``TrainRewardJob``.
        pairs: As there.
        validation: As there.
        pool: As there.
        params: As there.
        seed: As there.
        workspace: A folder of this training alone.

    Returns:
        What was measured: steps, losses, the calibration, counts of pairs.

    Raises:
        DataError: If there are no validation pairs, or no pair fits ``max_length``.
        ModelError: If the model cannot be loaded, if what was saved differs, or if the
            loss or a reward became infinite or NaN.
    """
    if validation.rows == 0:
        raise DataError("reward model: there are no validation pairs")
    config = from_pretrained(AutoConfig, start.location)
    use = Use("reward", params.max_length, params.lora, params.gradient_checkpointing)
    trains_bf16 = uses_bf16(params.precision, config, use)
    scores_bf16 = uses_bf16(
        params.precision, config, Use("labelling", params.max_length)
    )
    arguments = training_arguments(
        RewardConfig,
        params,
        workspace,
        seed,
        bf16=trains_bf16,
        num_train_epochs=1,
        # TRL would switch off the adapters' dropout too.
        disable_dropout=False,
    )
    model, tokenizer = load_reward_model(start.location, seed)
    check_window(model.config, params.max_length, "reward")
    encoder = Encoder(tokenizer, params.max_length)
    tables, params = _with_pool(pairs, pool, params)
    rows, counts = _encode(encoder, tables, params, workspace)
    if not is_zero3_enabled():  # there packing is tried, and kernels are chosen
        model.to(arguments.device)  # type: ignore[arg-type]
    language = language_loss(model, start, params.lm_weight)
    half = trains_bf16 or scores_bf16
    packing = pack.enable(model, wanted=params.packing, bf16=half)
    trained, metrics = _train(
        model, tokenizer, arguments, rows, packing, language, params, seed, workspace
    )
    scorer = Scorer(trained, encoder, packing, params.score_tokens, scores_bf16)
    metrics |= _save(scorer, encoder, read_table(validation), params, workspace)
    if rank.is_main():
        shutil.rmtree(workspace / "trainer")
        (workspace / "encoded.arrow").unlink()
    return {**metrics, **counts.as_metrics()}


def _save(
    scorer: Scorer,
    encoder: Encoder,
    held_out: pa.Table,
    params: RewardParams,
    workspace: Path,
) -> dict[str, float]:
    """Save a trained model, check and calibrate it; return what was measured."""
    metrics, folder = {}, workspace / "model"
    sample = next(_encoded(encoder, held_out))[1][:_SAMPLE]
    if rank.is_main() or is_zero3_enabled():
        metrics["reload_gap"] = save_checked(scorer, folder, sample)
        rewards = scorer.settled().table_rewards(held_out)
    if rank.is_main():
        metrics |= calibrate_model(
            folder,
            *rewards.astype(np.float64).T,
            temperature=params.fit_temperature,
        )
    return metrics


def _with_pool(
    pairs: Sequence[AnyTable], pool: TableRef | None, params: RewardParams
) -> tuple[list[tuple[AnyTable, float]], RewardParams]:
    """Return what is trained on, with factors of the weights, and how.

    A pair of the pool has no part in the pairwise loss. The others weigh more by as
    much, so that this loss stays a mean over the pairs that have a label.
    """
    if pool is None:
        return [(table, 1.0) for table in pairs], params
    own = sum(table.rows for table in pairs)
    growth = 1 + pool.rows / max(1, own)
    if params.lm_pool == "steps":
        longer = params.model_copy(update={"epochs": params.epochs * growth})
        return [(table, 1.0) for table in pairs], longer
    return [*((table, growth) for table in pairs), (pool, 0.0)], params


def _encode(
    encoder: Encoder,
    tables: Sequence[tuple[AnyTable, float]],
    params: RewardParams,
    workspace: Path,
) -> tuple[Dataset, EncodingCount]:
    counts = EncodingCount()

    def batches() -> Iterator[pa.RecordBatch]:
        for reference, factor in tables:
            table = read_table(reference)
            for start, encoded in _encoded(encoder, table):
                rows = table.slice(start, len(encoded))
                weight, *others = said_of(rows, params)
                extra = [column.tolist() for column in (weight * factor, *others)]
                admitted = [
                    (pair.prompt, pair.a, pair.b, *numbers)
                    for pair, *numbers in zip(encoded, *extra, strict=True)
                    if counts.admit(pair, params.overlong)
                ]
                columns = (
                    zip(*admitted, strict=True) if admitted else [[]] * len(ENCODED)
                )
                arrays = [
                    pa.array(column, field.type)
                    for column, field in zip(columns, ENCODED, strict=True)
                ]
                yield pa.RecordBatch.from_arrays(arrays, schema=ENCODED)

    if rank.is_main():
        write_table(workspace, "encoded", batches(), ENCODED)
        _report(counts, params)
    rank.barrier()
    return Dataset.from_file(str(workspace / "encoded.arrow")), counts


def _report(counts: EncodingCount, params: RewardParams) -> None:
    if not counts.kept:
        raise DataError(
            f"reward model: none of {counts.rows} pairs is left after encoding"
            f" ({counts.overlong} above max_length={params.max_length},"
            f" {counts.equal} equal after truncation); raise reward.max_length"
        )
    if counts.overlong or counts.equal:
        logger.warning(
            "%d of %d pairs above max_length=%d (%s), %d equal after truncation"
            " (dropped)",
            counts.overlong,
            counts.rows,
            params.max_length,
            params.overlong,
            counts.equal,
        )


def _train(
    model: Any,
    tokenizer: Any,
    arguments: Any,
    rows: Dataset,
    packing: Packing,
    language: LanguageLoss | None,
    params: RewardParams,
    seed: int,
    workspace: Path,
) -> tuple[Any, dict[str, float]]:
    disable_dropout_in_model(model)
    drop_features(model, params.dropout)
    steps = partial(
        PairSteps,
        rows,
        packing,
        batch_size=params.batch_size,
        epochs=params.epochs,
        max_tokens_per_microbatch=(
            MOST
            if params.max_tokens_per_microbatch == "auto"
            else params.max_tokens_per_microbatch
        ),
        pad_token_id=tokenizer.pad_token_id,
        seed=seed,
        answers=language is not None,
    )
    adapters = adapter_config(params.lora, "SEQ_CLS", model)
    stop_gradients(model, params.lora)
    trainer = SerRewardTrainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        processing_class=tokenizer,
        peft_config=adapters,
        steps=lambda shard: steps(shard=shard),
        loss=params.loss,
        hinge_margin=params.margin,
        language=language,
    )
    check_packing(trainer)
    if params.max_tokens_per_microbatch == "auto" and not is_zero3_enabled():
        trainer.fit_memory()
    metrics = train(trainer, workspace, "reward model")
    adapter = workspace / "adapter" if params.keep_adapter else None
    return trained_model(trainer, adapter).eval(), metrics


def _encoded(encoder: Encoder, table: pa.Table) -> Iterator[tuple[int, list[Any]]]:
    """Yield the encoded pairs of a table batch by batch, with the first one's row."""
    start = 0
    labelled = "chosen" in table.column_names
    names = ("chosen", "rejected") if labelled else ("response_a", "response_b")
    for batch in table.select(["prompt", *names]).to_batches(1024):
        columns = batch.to_pydict()
        yield start, encoder.pairs(*columns.values())
        start += batch.num_rows
