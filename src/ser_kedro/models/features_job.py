"""The jobs that compute features of a frozen model once, and keep them."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, TypedDict

from ser_kedro.errors import StoreError
from ser_kedro.models.scorer_job import ScorerJob
from ser_kedro.store.fingerprints import hash_file, hash_folder
from ser_kedro.store.job import Job
from ser_kedro.store.json_io import read_json
from ser_kedro.store.layout import RESULT, finished
from ser_kedro.store.references import AnyTable, ModelOutputs, ModelRef, TableRef

_ANY = TableRef(path="", fingerprint="", rows=0)


class BackboneJob(Job[ModelOutputs]):
    """Put a model's weights, its head's apart from the others, where heads share them.

    Models with equal weights give equal fingerprints, whatever made them.

    Attributes:
        start: A language model, an encoder or a reward model.
    """

    stage: ClassVar[str] = "backbone"
    libraries: ClassVar[tuple[str, ...]] = ("torch", "transformers", "safetensors")

    start: ModelRef

    @property
    def title(self) -> str:
        """What it does, for the log."""
        return "Save the frozen backbone"

    def work(self, workspace: Path) -> ModelOutputs:
        """Write ``model``: a classifier with a head of zeros, and its tokenizer."""
        from ser_kedro.models.features import save_backbone

        folder = workspace / "model"
        save_backbone(self.start.location, folder)
        made = ModelRef(
            kind="reward_model",
            path="model",
            fingerprint=hash_folder(folder)[:32],
            base_model=self.start.base_model,
        )
        return {"model": made}


class FeatureOutputs(TypedDict):
    """A table of features."""

    features: TableRef


class FeaturesJob(ScorerJob[FeatureOutputs]):
    """Compute what a head and a committee read of each response of a table.

    Each pair has a forward pass of its own, its responses in the order of their text,
    so that its features depend on nothing else: neither on the pairs around it nor on
    what the store holds. Pairs that another table of the same backbone has are copied
    from there, which saves time and changes nothing.

    Attributes:
        model: From ``BackboneJob``.
        pairs: Any table of pairs.
    """

    stage: ClassVar[str] = "features"

    pairs: AnyTable

    @property
    def title(self) -> str:
        """What it does, for the log."""
        return f"Compute the features of {self.pairs.rows:,} pairs"

    def work(self, workspace: Path) -> FeatureOutputs:
        """Write ``features``: a row a pair, in their order, responses by their text."""
        from ser_kedro.models.features import write_features

        # A job that differs in its table alone has the same basis.
        basis = self.model_copy(update={"pairs": _ANY}).fingerprint
        known = filter(None, map(_whole_features, finished(self.stage)))
        features = write_features(
            self.model.location,
            self.pairs,
            list(known),
            basis,
            self,
            workspace,
        )
        return {"features": features}


def _whole_features(folder: Path) -> TableRef | None:
    """Return the table of a finished job, unless it is damaged: rows are copied."""
    try:
        made = read_json(folder / RESULT)["outputs"]["features"]
        features = TableRef.model_validate(made)
        whole = hash_file(features.location)[:32] == features.fingerprint
    except (KeyError, OSError, StoreError, TypeError, ValueError):
        return None
    return features if whole else None
