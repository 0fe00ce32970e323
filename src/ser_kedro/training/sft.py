"""Supervised fine-tuning: the model that the reward model and the policy start from."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa

from ser_kedro.errors import DataError
from ser_kedro.launch import rank
from ser_kedro.models.log_filters import quiet
from ser_kedro.store.job import Job
from ser_kedro.store.references import ModelOutputs, ModelRef, TableRef
from ser_kedro.store.tables import read_table, write_table
from ser_kedro.training.params import ModelParams, SftParams

if TYPE_CHECKING:
    from ser_kedro.models.encode import Encoder

logger = logging.getLogger(__name__)

ROWS = pa.schema(
    [("input_ids", pa.list_(pa.int32())), ("labels", pa.list_(pa.int32()))]
)


class SftJob(Job[ModelOutputs]):
    """Fine-tune a language model on responses, loss on the responses' tokens only.

    An encoder (BERT-like) cannot generate: it is passed on as it is.

    Attributes:
        model: What to start from.
        pairs: ``sft_pairs``.
        pool: ``unlabeled_pairs``, where ``params.pool`` wants them.
        params: How to train.
        seed: Draws new weights and the order of the rows.
    """

    stage: ClassVar[str] = "sft"
    distributed: ClassVar[bool] = True
    libraries: ClassVar[tuple[str, ...]] = (
        "torch",
        "transformers",
        "tokenizers",
        "trl",
        "peft",
        "accelerate",
    )

    model: ModelParams
    pairs: TableRef
    pool: TableRef | None = None
    params: SftParams
    seed: int

    @quiet()
    def work(self, workspace: Path) -> ModelOutputs:
        """Write ``model``: weights and tokenizer."""
        import torch

        from ser_kedro.models.encode import Encoder, ensure_pad_token
        from ser_kedro.models.reward_model import is_encoder
        from ser_kedro.models.zero3 import in_parts

        arguments = self._arguments(workspace)
        torch.manual_seed(self.seed)  # a new pad token's embedding is drawn
        model, tokenizer = self._start()
        if in_parts():
            torch.manual_seed(self.seed)  # to take a model apart draws numbers too
        ensure_pad_token(tokenizer, model)
        passed_on = is_encoder(model.config)
        metrics: dict[str, float] = {}
        if passed_on:
            logger.info("sft: %s is an encoder, nothing to fine-tune", self.model.name)
        else:
            encoder = Encoder(tokenizer, self.params.max_length)
            model, metrics = self._train(model, encoder, arguments, workspace)
        folder = workspace / "model"
        if rank.is_main() or in_parts():
            model.save_pretrained(folder)
        if rank.is_main():
            tokenizer.save_pretrained(folder)
            shutil.rmtree(workspace / "trainer", ignore_errors=True)
            (workspace / "encoded.arrow").unlink(missing_ok=True)
        made = ModelRef(
            kind="encoder" if passed_on else "language_model",
            path="model",
            fingerprint=self.fingerprint,
            base_model=self.model.name,
            metrics=metrics,
        )
        return {"model": made}

    def _arguments(self, workspace: Path) -> Any:
        from trl import SFTConfig

        from ser_kedro.models.distributed import training_arguments

        share = math.ceil(self.params.batch_size / rank.world_size())
        micro = min(self.params.micro_batch_size or share, share)
        return training_arguments(
            SFTConfig,
            self.params,
            workspace,
            self.seed,
            num_train_epochs=self._epochs(),
            per_device_train_batch_size=micro,
            gradient_accumulation_steps=math.ceil(share / micro),
            completion_only_loss=True,
        )

    def _start(self) -> tuple[Any, Any]:
        import torch
        from transformers import (
            AutoConfig,
            AutoModel,
            AutoModelForCausalLM,
            AutoTokenizer,
        )

        from ser_kedro.models.reward_model import (
            check_window,
            from_pretrained,
            is_encoder,
        )
        from ser_kedro.models.scratch import random_model, train_tokenizer

        if (scratch := self.model.scratch) is not None:
            tokenizer = train_tokenizer(self._texts(), scratch.vocab_size)
            length = self.params.max_length
            return random_model(scratch, tokenizer, length, self.seed), tokenizer
        name, revision = self.model.name, self.model.revision
        config = from_pretrained(AutoConfig, name, revision=revision)
        check_window(config, self.params.max_length, "sft")
        loader = AutoModel if is_encoder(config) else AutoModelForCausalLM
        model = from_pretrained(loader, name, revision=revision, dtype=torch.float32)
        return model, from_pretrained(AutoTokenizer, name, revision=revision)

    def _texts(self) -> Iterator[str]:
        # Both responses, whatever the target: a vocabulary learns no preference.
        for batch in read_table(self.pairs).to_batches(1024):
            for row in batch.to_pylist():
                yield from (turn["content"] for turn in row["prompt"])
                yield from (row["chosen"], row["rejected"], "Question: ", "Answer: ")

    def _train(
        self, model: Any, encoder: Encoder, arguments: Any, workspace: Path
    ) -> tuple[Any, dict[str, float]]:
        from datasets import Dataset

        from ser_kedro.models.encode import EncodingCount
        from ser_kedro.models.lora import adapter_config, trained_model
        from ser_kedro.training.reward_trainer import train
        from ser_kedro.training.sft_trainer import SerSftTrainer

        counts = EncodingCount()
        if rank.is_main():
            batches = self._encode(encoder, counts)
            write_table(workspace, "encoded", batches, ROWS)
            if not counts.kept:
                raise DataError(
                    f"{self.stage}: none of {counts.rows} pairs is left after encoding"
                    f" ({counts.overlong} above max_length={self.params.max_length});"
                    " raise sft.max_length"
                )
        rank.barrier()
        trainer = SerSftTrainer(
            model=model,
            args=arguments,
            train_dataset=Dataset.from_file(str(workspace / "encoded.arrow")),
            processing_class=encoder.tokenizer,
            peft_config=adapter_config(self.params.lora, "CAUSAL_LM"),
            batch_size=self.params.batch_size,
        )
        metrics = train(trainer, workspace, "sft")
        adapter = workspace / "adapter" if self.params.keep_adapter else None
        trained = trained_model(trainer, adapter)
        return trained, {**metrics, **counts.as_metrics()}

    def _epochs(self) -> float:
        """Return the passes over the rows: more of them where the pool is a control."""
        if self.params.pool != "steps" or self.pool is None:
            return self.params.epochs
        own = self.pairs.rows * (2 if self.params.target == "both" else 1)
        return self.params.epochs * (own + 2 * self.pool.rows) / own

    def _encode(self, encoder: Encoder, counts: Any) -> Iterator[pa.RecordBatch]:
        both = self.params.target == "both"
        yield from self._encode_table(
            self.pairs, ("chosen", "rejected"), both, encoder, counts
        )
        if self.params.pool == "text" and self.pool is not None:
            names = ("response_a", "response_b")
            yield from self._encode_table(self.pool, names, True, encoder, counts)

    def _encode_table(
        self,
        table: TableRef,
        names: tuple[str, str],
        both: bool,
        encoder: Encoder,
        counts: Any,
    ) -> Iterator[pa.RecordBatch]:
        from ser_kedro.training.sft_trainer import NO_LOSS

        for batch in read_table(table).to_batches(1024):
            rows = batch.select(["prompt", *names]).to_pydict()
            # In an order of their own, so that no label shows in the order of rows.
            responses = [
                sorted(pair) if both else (pair[0], pair[0])
                for pair in zip(*(rows[name] for name in names), strict=True)
            ]
            one, other = zip(*responses, strict=True)
            ids: list[list[int]] = []
            labels: list[list[int]] = []
            for pair in encoder.pairs(rows["prompt"], one, other):
                if not counts.admit(pair, self.params.overlong, compared=False):
                    continue
                for response in (pair.a, pair.b) if both else (pair.a,):
                    ids.append(pair.prompt + response)
                    labels.append([NO_LOSS] * len(pair.prompt) + response)
            arrays = [pa.array(ids, ROWS.types[0]), pa.array(labels, ROWS.types[1])]
            yield pa.RecordBatch.from_arrays(arrays, schema=ROWS)
