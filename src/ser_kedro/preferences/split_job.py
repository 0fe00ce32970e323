"""The job that turns raw preference data into the tables of the project."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, TypedDict, cast

from pydantic import (
    Field,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    field_serializer,
)

from ser_kedro.preferences.source import PreferenceSource
from ser_kedro.preferences.split import SplitParams
from ser_kedro.store.job import Job
from ser_kedro.store.references import DocumentRef, TableRef


class SplitOutputs(TypedDict):
    """The parts of the data, and what happened to the rows."""

    sft_pairs: TableRef
    labeled_pairs: TableRef
    validation_pairs: TableRef
    unlabeled_pairs: TableRef
    pool_prompts: TableRef
    audit_labels: TableRef
    test_pairs: TableRef
    ppo_prompts: TableRef
    data_report: DocumentRef


class SplitJob(Job[SplitOutputs]):
    """Split preference data by prompt, and take the labels off the pool.

    Attributes:
        source: Where the raw pairs are from. In the job's fingerprint it counts by its
            content, not by its place.
        params: The shares.
        seed: Of every random choice.
    """

    stage: ClassVar[str] = "data_split"
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "pyarrow", "scipy")

    source: PreferenceSource
    params: SplitParams = SplitParams()
    seed: int = Field(default=0, ge=0)

    @field_serializer("source", mode="wrap")
    def _serialize_source(
        self,
        value: PreferenceSource,
        handler: SerializerFunctionWrapHandler,
        info: SerializationInfo,
    ) -> Any:
        if info.context and info.context.get("identity"):
            return value.identity
        return handler(value)

    @property
    def title(self) -> str:
        """What it does, for the log."""
        return "Read and split the preference pairs"

    def work(self, workspace: Path) -> SplitOutputs:
        """Read, check, group, assign and write; nothing large is held in memory.

        Args:
            workspace: A folder of this job alone.

        Returns:
            ``sft_pairs``, ``labeled_pairs``, ``validation_pairs``, ``test_pairs``,
            ``ppo_prompts``; of the pool ``unlabeled_pairs`` or, where it has no
            answers, ``pool_prompts``; ``audit_labels``; and the document
            ``data_report``, which says what happened to the rows.

        Raises:
            DataError: If the data cannot be read, or a part of it would be empty.
        """
        from ser_kedro.preferences.split_work import write_split

        tables, report = write_split(self.source, self.params, self.seed, workspace)
        return cast("SplitOutputs", {**tables, "data_report": report})
