"""The job that trains a reward model."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa

from ser_kedro.errors import DataError
from ser_kedro.launch import rank
from ser_kedro.models.log_filters import quiet
from ser_kedro.models.validation import calibrate_model
from ser_kedro.store.job import Job
from ser_kedro.store.references import AnyTable, ModelOutputs, ModelRef, TableRef
from ser_kedro.store.tables import read_table, write_table
from ser_kedro.training.params import RewardParams, uses_bf16

if TYPE_CHECKING:
    from datasets import Dataset

    from ser_kedro.models.encode import Encoder, EncodingCount
    from ser_kedro.models.pack import Packing

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
    ]
)


class TrainRewardJob(Job[ModelOutputs]):
    """Train a reward model on tables of pairs; calibrate it on held-out ones.

    Attributes:
        start: A language model, an encoder or a reward model to go on from.
        pairs: Tables with ``prompt``, ``chosen``, ``rejected`` and, where they have
            them, ``weight`` (default 1) and ``soft_label`` (default 1).
        validation: Labelled pairs that no training reads.
        params: How to train.
        seed: Draws the head, where it is new, and the order of the pairs.
    """

    stage: ClassVar[str] = "reward_model"
    distributed: ClassVar[bool] = True
    libraries: ClassVar[tuple[str, ...]] = (
        "torch",
        "transformers",
        "trl",
        "peft",
        "accelerate",
        "tokenizers",
        "scipy",
    )

    start: ModelRef
    pairs: tuple[AnyTable, ...]
    validation: TableRef
    params: RewardParams
    seed: int

    @quiet()
    def work(self, workspace: Path) -> ModelOutputs:
        """Write ``model``: weights, tokenizer, calibration, validation rewards."""
        from trl import RewardConfig

        from ser_kedro.models import pack
        from ser_kedro.models.distributed import training_arguments
        from ser_kedro.models.encode import Encoder
        from ser_kedro.models.reward_model import check_window, load_reward_model
        from ser_kedro.models.scorer import Scorer, save_checked
        from ser_kedro.models.zero3 import in_parts

        if self.validation.rows == 0:
            raise DataError(f"{self.stage}: there are no validation pairs")
        arguments = training_arguments(
            RewardConfig,
            self.params,
            workspace,
            self.seed,
            num_train_epochs=1,
            # TRL would switch off the adapters' dropout too.
            disable_dropout=False,
        )
        model, tokenizer = load_reward_model(self.start.location, self.seed)
        check_window(model.config, self.params.max_length, "reward")
        encoder = Encoder(tokenizer, self.params.max_length)
        rows, counts = self._encode(encoder, workspace)
        packing = pack.enable(model, wanted=self.params.packing)
        trained, metrics = self._train(
            model, tokenizer, arguments, rows, packing, workspace
        )
        scorer = Scorer(
            trained,
            encoder,
            packing,
            self.params.score_tokens,
            uses_bf16(self.params.precision),
        )
        folder = workspace / "model"
        sample = next(_encoded(encoder, read_table(self.validation)))[1][:_SAMPLE]
        if rank.is_main() or in_parts():
            metrics["reload_gap"] = save_checked(scorer, folder, sample)
            rewards = scorer.table_rewards(read_table(self.validation))
        if rank.is_main():
            metrics |= calibrate_model(
                folder,
                *rewards.astype(np.float64).T,
                temperature=self.params.fit_temperature,
            )
            shutil.rmtree(workspace / "trainer")
            (workspace / "encoded.arrow").unlink()
        made = ModelRef(
            kind="reward_model",
            path="model",
            fingerprint=self.fingerprint,
            base_model=self.start.base_model,
            metrics={**metrics, **counts.as_metrics()},
        )
        return {"model": made}

    def _encode(
        self, encoder: Encoder, workspace: Path
    ) -> tuple[Dataset, EncodingCount]:
        from datasets import Dataset

        from ser_kedro.models.encode import EncodingCount

        counts = EncodingCount()
        tables = [read_table(reference) for reference in self.pairs]

        def batches() -> Iterator[pa.RecordBatch]:
            for table in tables:
                for start, pairs in _encoded(encoder, table):
                    extra = [
                        _column(table, name, start, len(pairs))
                        for name in ("weight", "soft_label")
                    ]
                    admitted = [
                        (pair.prompt, pair.a, pair.b, *numbers)
                        for pair, *numbers in zip(pairs, *extra, strict=True)
                        if counts.admit(pair, self.params.overlong)
                    ]
                    columns = zip(*admitted, strict=True) if admitted else [[]] * 5
                    arrays = [
                        pa.array(column, field.type)
                        for column, field in zip(columns, ENCODED, strict=True)
                    ]
                    yield pa.RecordBatch.from_arrays(arrays, schema=ENCODED)

        if rank.is_main():
            write_table(workspace, "encoded", batches(), ENCODED)
            self._report(counts)
        rank.barrier()
        return Dataset.from_file(str(workspace / "encoded.arrow")), counts

    def _report(self, counts: EncodingCount) -> None:
        if not counts.kept:
            raise DataError(
                f"{self.stage}: none of {counts.rows} pairs is left after encoding"
                f" ({counts.overlong} above max_length={self.params.max_length},"
                f" {counts.equal} equal after truncation); raise reward.max_length"
            )
        if counts.overlong or counts.equal:
            logger.warning(
                "%d of %d pairs above max_length=%d (%s), %d equal after truncation"
                " (dropped)",
                counts.overlong,
                counts.rows,
                self.params.max_length,
                self.params.overlong,
                counts.equal,
            )

    def _train(
        self,
        model: Any,
        tokenizer: Any,
        arguments: Any,
        rows: Dataset,
        packing: Packing,
        workspace: Path,
    ) -> tuple[Any, dict[str, Any]]:
        from trl.trainer.utils import disable_dropout_in_model

        from ser_kedro.models.lora import adapter_config, trained_model
        from ser_kedro.models.reward_model import drop_features
        from ser_kedro.training.batches import PairSteps
        from ser_kedro.training.reward_trainer import SerRewardTrainer, train

        disable_dropout_in_model(model)
        drop_features(model, self.params.dropout)
        steps = partial(
            PairSteps,
            rows,
            packing,
            batch_size=self.params.batch_size,
            epochs=self.params.epochs,
            micro_tokens=self.params.micro_tokens,
            pad_token_id=tokenizer.pad_token_id,
            seed=self.seed,
        )
        trainer = SerRewardTrainer(
            model=model,
            args=arguments,
            train_dataset=rows,
            processing_class=tokenizer,
            peft_config=adapter_config(self.params.lora, "SEQ_CLS"),
            steps=lambda share: steps(share=share),
            loss=self.params.loss,
            hinge_margin=self.params.margin,
        )
        metrics = train(trainer, workspace, "reward model")
        adapter = workspace / "adapter" if self.params.keep_adapter else None
        return trained_model(trainer, adapter).eval(), metrics


def _encoded(encoder: Encoder, table: pa.Table) -> Iterator[tuple[int, list[Any]]]:
    """Yield the encoded pairs of a table batch by batch, with the first one's row."""
    start = 0
    for batch in table.select(["prompt", "chosen", "rejected"]).to_batches(1024):
        columns = batch.to_pydict()
        yield start, encoder.pairs(*columns.values())
        start += batch.num_rows


def _column(table: pa.Table, name: str, start: int, length: int) -> list[float]:
    if name not in table.column_names:
        return [1.0] * length
    values: list[float] = table[name].slice(start, length).to_pylist()
    return values
