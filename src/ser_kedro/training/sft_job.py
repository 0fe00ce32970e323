"""The job that fine-tunes the language model."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from ser_kedro.models.params import ModelParams
from ser_kedro.store.fingerprints import hash_folder
from ser_kedro.store.job import Job
from ser_kedro.store.references import ModelOutputs, ModelRef, TableRef
from ser_kedro.training.params import SftParams


class SftJob(Job[ModelOutputs]):
    """Fine-tune a language model on responses, loss on the responses' tokens only.

    What needs no fine-tuning is passed on as it is, and what cannot be fine-tuned; see
    ``models.starting_point``.

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

    @property
    def title(self) -> str:
        """What it does, for the log."""
        return f"Fine-tune {self.model.name} on {self.pairs.rows:,} pairs"

    def work(self, workspace: Path) -> ModelOutputs:
        """Write ``model``: weights and tokenizer."""
        from ser_kedro.launch import rank
        from ser_kedro.training.sft import fine_tune

        kind, metrics = fine_tune(
            self.model, self.pairs, self.pool, self.params, self.seed, workspace
        )
        name = self.fingerprint
        if not metrics and rank.is_main():  # it has written the files; others may not
            # A model that is passed on is named by its content: it is the same for
            # every split of the data, and what it computed is reused.
            name = hash_folder(workspace / "model")[:32]
        made = ModelRef(
            kind=kind,
            path="model",
            fingerprint=name,
            base_model=self.model.name,
            metrics=metrics,
        )
        return {"model": made}
