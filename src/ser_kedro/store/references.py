"""References: what travels between nodes in place of weights and tables."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    field_validator,
    model_serializer,
)

from ser_kedro.errors import StoreError
from ser_kedro.store.json_io import read_json
from ser_kedro.store.layout import project_root

if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset


def _is_none(value: Any) -> bool:
    return value is None or (isinstance(value, Real) and not math.isfinite(value))


class Reference(BaseModel):
    """Names one thing in the store: a table, a model or a document.

    Attributes:
        path: Where it lies, relative to the project's root, with forward slashes.
            While a job works, relative to its workspace.
        fingerprint: Identity of the content: the hash of a table's bytes, or of the
            job that trained a model; of a model that nothing trained, of its files.
        metrics: Numbers that were measured while it was made. One that is not finite
            is left out, since JSON has no word for it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    fingerprint: str
    metrics: dict[str, int | float] = {}

    @field_validator("metrics", mode="before")
    @classmethod
    def _finite(cls, metrics: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in metrics.items() if not _is_none(value)}

    @model_serializer(mode="wrap")
    def _serialize(
        self, handler: SerializerFunctionWrapHandler, info: SerializationInfo
    ) -> Any:
        # Inside a job's fingerprint an input counts by its identity alone: where it
        # lies and what was measured on it changes nothing.
        if info.context and info.context.get("identity"):
            return self.identity
        return handler(self)

    def __hash__(self) -> int:
        """Return what equal references have in common."""
        return hash(self.fingerprint)

    @property
    def identity(self) -> str:
        """What it counts by as the input of a job."""
        return self.fingerprint

    @property
    def is_there(self) -> bool:
        """Whether anything lies where it points to."""
        return (project_root() / self.path).exists()

    @property
    def location(self) -> Path:
        """The absolute path of the file or folder.

        Raises:
            StoreError: If nothing lies there (pruned, or another machine's store).
        """
        path = project_root() / self.path
        if not path.exists():
            raise StoreError(
                f"{self.fingerprint[:12]}: nothing at {path}; run the pipeline again to"
                " make it"
            )
        return path


class _Table(Reference):
    """A table of the store, an Arrow file.

    Attributes:
        rows: Number of rows.
    """

    rows: int

    def open(self) -> Dataset:
        """Return the table as a memory-mapped ``datasets.Dataset``."""
        from datasets import Dataset

        return Dataset.from_file(str(self.location))

    def to_pandas(self) -> pd.DataFrame:
        """Return the whole table, in memory."""
        return self.open().to_pandas()


class TableRef(_Table):
    """Names a table."""

    kind: Literal["table"] = "table"


class SelectionRef(_Table):
    """Names the pairs that a loop has selected, with the labels it gave them.

    Attributes:
        status: The learning status that they were selected under.
    """

    kind: Literal["selection"] = "selection"
    status: str

    @property
    def identity(self) -> str:
        """What it counts by: equal pairs under another status are another selection."""
        return f"{self.fingerprint} {self.status}"


class ModelRef(Reference):
    """Names a model, a Hugging Face folder.

    Attributes:
        kind: What it is. An ``encoder`` reads in both directions and cannot generate; a
            ``committee`` is a head on views of its backbone, which no other software
            loads.
        base_model: The hub id, folder or preset that it descends from.
        voters: Models that label together with this one.
        backbone: The frozen model that a trained head stands on.
    """

    kind: Literal["language_model", "encoder", "reward_model", "committee"]
    base_model: str | None = None
    voters: tuple[ModelRef, ...] = ()
    backbone: ModelRef | None = None

    @property
    def identity(self) -> str:
        """What it counts by: itself, and those that label with it."""
        return " ".join(model.fingerprint for model in (self, *self.voters))

    def load_model(self) -> Any:
        """Load the weights, as transformers' auto classes do.

        Raises:
            StoreError: If it is a committee.
        """
        import transformers

        if self.kind == "committee":
            raise StoreError(
                f"{self.path}: a committee of views is no transformers model; score"
                " with ser_kedro.models.load_scorer.load_scorer, or keep a model with"
                " self_evolve.keep_committee=never"
            )

        auto = {
            "language_model": transformers.AutoModelForCausalLM,
            "encoder": transformers.AutoModel,
            "reward_model": transformers.AutoModelForSequenceClassification,
        }[self.kind]
        return auto.from_pretrained(self.location)

    def load_tokenizer(self) -> Any:
        """Load its tokenizer."""
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.location)  # a folder  # nosec B615


class ModelOutputs(TypedDict):
    """What a job makes that makes one model."""

    model: ModelRef


class DocumentRef(Reference):
    """Names a JSON document."""

    kind: Literal["document"] = "document"

    def read(self) -> Any:
        """Return what it holds."""
        return read_json(self.location)


class Nothing(BaseModel):
    """Stands where a loop was skipped: Kedro does not save ``None``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["nothing"] = "nothing"


NOTHING = Nothing()

AnyTable = Annotated[TableRef | SelectionRef, Field(discriminator="kind")]
StoredRef = Annotated[
    TableRef | SelectionRef | ModelRef | DocumentRef, Field(discriminator="kind")
]
AnyRef = Annotated[
    TableRef | SelectionRef | ModelRef | DocumentRef | Nothing,
    Field(discriminator="kind"),
]
ANY_REF: TypeAdapter[AnyRef] = TypeAdapter(AnyRef)
OUTPUTS: TypeAdapter[dict[str, StoredRef]] = TypeAdapter(dict[str, StoredRef])


def pairs_text(tables: Iterable[AnyTable]) -> str:
    """Say how many pairs tables hold, as in ``156 labelled and 908 self-labelled``."""
    rows = {"table": 0, "selection": 0}
    for table in tables:
        rows[table.kind] += table.rows
    own = f" and {rows['selection']:,} self-labelled" if rows["selection"] else ""
    return f"{rows['table']:,} labelled{own} pairs"
