"""References: what travels between nodes in the place of weights and tables."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from ser_kedro.errors import StoreError

PROJECT_VARIABLE = "SER_KEDRO_PROJECT"


@cache
def _find_project(start: Path) -> Path:
    for folder in (start, *start.parents):
        pyproject = folder / "pyproject.toml"
        if pyproject.is_file() and "[tool.kedro]" in pyproject.read_text("utf-8"):
            return folder
    return start


def project_root() -> Path:
    """Return the folder of the Kedro project that this process works on.

    The environment variable ``SER_KEDRO_PROJECT`` (which the project's hooks set, so
    that child processes agree) wins over the nearest parent of the working directory
    that holds a Kedro ``pyproject.toml``.
    """
    named = os.environ.get(PROJECT_VARIABLE)
    return Path(named) if named else _find_project(Path.cwd())


class Reference(BaseModel):
    """Names one table or one model in the store.

    Attributes:
        kind: ``table`` (an Arrow file), ``language_model`` or ``reward_model`` (a
            Hugging Face folder), or ``nothing`` where a loop was skipped.
        path: Where it lies, relative to the project's root, with forward slashes.
        fingerprint: Identity of the content: the hash of a table's bytes, or of the
            job that trained a model.
        base_model: The hub id, folder or preset that a model descends from.
        rows: Number of rows of a table.
        metrics: What was measured while it was made.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["table", "language_model", "reward_model", "nothing"]
    path: str
    fingerprint: str
    base_model: str | None = None
    rows: int | None = None
    metrics: dict[str, Any] = {}

    @model_serializer(mode="wrap")
    def _serialize(
        self, handler: SerializerFunctionWrapHandler, info: SerializationInfo
    ) -> Any:
        # Inside a job's fingerprint an input counts by its own fingerprint alone:
        # where it lies and what was measured on it changes nothing.
        if info.context and info.context.get("identity"):
            return self.fingerprint
        return handler(self)

    @property
    def location(self) -> Path:
        """The absolute path of the file or folder.

        Raises:
            StoreError: If nothing lies there (pruned, or another machine's store).
        """
        path = project_root() / self.path
        if not path.exists():
            raise StoreError(
                f"{self.kind} {self.fingerprint[:12]}: nothing at {path}; run the"
                " pipeline again to make it"
            )
        return path


NOTHING = Reference(kind="nothing", path="", fingerprint="")


class HasReference(Protocol):
    """What the catalog loads in the place of a reference."""

    @property
    def reference(self) -> Reference:
        """The reference it was loaded from."""


def reference_of(loaded: Reference | HasReference) -> Reference:
    """Return the reference behind a loaded table or checkpoint."""
    return loaded if isinstance(loaded, Reference) else loaded.reference
