"""Supervised fine-tuning: the model that the reward model and the policy start from."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa

from ser_kedro.errors import DataError
from ser_kedro.launch.job import Job, Output
from ser_kedro.launch.reference import Reference
from ser_kedro.launch.table import read_table, write_table
from ser_kedro.reward.params import ModelParams, SftParams
from ser_kedro.reward.quiet import quiet

if TYPE_CHECKING:
    from ser_kedro.reward.encode import Encoder

logger = logging.getLogger(__name__)

ROWS = pa.schema(
    [("input_ids", pa.list_(pa.int32())), ("labels", pa.list_(pa.int32()))]
)
# What the trainer's loss ignores.
_NO_LOSS = -100


class SftJob(Job):
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
    libraries: ClassVar[tuple[str, ...]] = (
        "torch",
        "transformers",
        "tokenizers",
        "trl",
        "peft",
        "accelerate",
    )

    model: ModelParams
    pairs: Reference
    pool: Reference | None = None
    params: SftParams
    seed: int

    @quiet()
    def work(self, workspace: Path) -> dict[str, Output]:
        """Write ``model``: weights and tokenizer."""
        import torch

        from ser_kedro.reward.encode import Encoder, ensure_pad_token
        from ser_kedro.reward.model import is_encoder

        torch.manual_seed(self.seed)  # a new pad token's embedding is drawn
        model, tokenizer = self._start()
        ensure_pad_token(tokenizer, model)
        if is_encoder(model.config):
            logger.info("sft: %s is an encoder, nothing to fine-tune", self.model.name)
            metrics: dict[str, Any] = {"skipped": "encoder model"}
        else:
            encoder = Encoder(tokenizer, self.params.max_length)
            model, metrics = self._train(model, encoder, workspace)
        folder = workspace / "model"
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        shutil.rmtree(workspace / "trainer", ignore_errors=True)
        (workspace / "encoded.arrow").unlink(missing_ok=True)
        output = Output(
            kind="language_model",
            file="model",
            base_model=self.model.name,
            metrics=metrics,
        )
        return {"model": output}

    def _start(self) -> tuple[Any, Any]:
        import torch
        from transformers import (
            AutoConfig,
            AutoModel,
            AutoModelForCausalLM,
            AutoTokenizer,
        )

        from ser_kedro.policy.scratch import random_model, train_tokenizer
        from ser_kedro.reward.model import check_window, from_pretrained, is_encoder

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
        self, model: Any, encoder: Encoder, workspace: Path
    ) -> tuple[Any, dict[str, Any]]:
        from datasets import Dataset
        from trl import SFTConfig, SFTTrainer

        from ser_kedro.reward.encode import EncodingCount
        from ser_kedro.reward.lora import adapter_config, trained_model
        from ser_kedro.reward.trainer import train, training_arguments

        counts = EncodingCount()
        batches = self._encode(encoder, counts)
        write_table(workspace, "encoded", batches, ROWS)
        if not counts.kept:
            raise DataError(
                f"{self.stage}: none of {counts.rows} pairs is left after encoding"
                f" ({counts.overlong} above max_length={self.params.max_length}); raise"
                " sft.max_length"
            )
        micro = self.params.micro_batch_size or self.params.batch_size
        trainer = SFTTrainer(
            model=model,
            args=SFTConfig(
                **training_arguments(self.params, workspace, self.seed),
                num_train_epochs=self._epochs(),
                per_device_train_batch_size=micro,
                gradient_accumulation_steps=self.params.batch_size // micro,
                completion_only_loss=True,
            ),
            train_dataset=Dataset.from_file(str(workspace / "encoded.arrow")),
            processing_class=encoder.tokenizer,
            peft_config=adapter_config(self.params.lora, "CAUSAL_LM"),
        )
        metrics = train(trainer, workspace, "sft")
        return trained_model(trainer), {**metrics, "encoding": counts.as_metrics()}

    def _epochs(self) -> float:
        """Return the passes over the rows: more of them where the pool is a control."""
        if self.params.pool != "steps" or self.pool is None:
            return self.params.epochs
        own = (self.pairs.rows or 0) * (2 if self.params.target == "both" else 1)
        return self.params.epochs * (own + 2 * (self.pool.rows or 0)) / own

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
        table: Reference,
        names: tuple[str, str],
        both: bool,
        encoder: Encoder,
        counts: Any,
    ) -> Iterator[pa.RecordBatch]:
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
                    labels.append([_NO_LOSS] * len(pair.prompt) + response)
            arrays = [pa.array(ids, ROWS.types[0]), pa.array(labels, ROWS.types[1])]
            yield pa.RecordBatch.from_arrays(arrays, schema=ROWS)
