"""What a reference loads as: a checkpoint, or a memory-mapped table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset

from ser_kedro.launch.reference import Reference


@dataclass(frozen=True)
class Checkpoint:
    """A model of the store: where it is and what is known of it, weights unread.

    Attributes:
        reference: The reference that the catalog versions.
    """

    reference: Reference

    @property
    def path(self) -> Path:
        """Its folder, absolute; a Hugging Face folder."""
        return self.reference.location

    @property
    def fingerprint(self) -> str:
        """Hash of the job that trained it."""
        return self.reference.fingerprint

    @property
    def base_model(self) -> str | None:
        """The hub id, folder or preset it descends from."""
        return self.reference.base_model

    @property
    def metrics(self) -> dict[str, Any]:
        """What was measured while it was trained."""
        return self.reference.metrics

    def load_model(self) -> Any:
        """Load the weights, as transformers' auto classes do."""
        import transformers

        if self.reference.kind == "reward_model":
            auto = transformers.AutoModelForSequenceClassification
        elif "skipped" in self.metrics:  # an encoder, which SFT passed on
            auto = transformers.AutoModel
        else:
            auto = transformers.AutoModelForCausalLM
        return auto.from_pretrained(self.path)

    def load_tokenizer(self) -> Any:
        """Load its tokenizer."""
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.path)


class StoredTable(Dataset):  # type: ignore[misc]
    """A memory-mapped ``datasets.Dataset`` that knows its reference."""

    reference: Reference

    @classmethod
    def open(cls, reference: Reference) -> StoredTable:
        """Map the table that ``reference`` names."""
        table = cls.from_file(str(reference.location))
        table.reference = reference
        return table
