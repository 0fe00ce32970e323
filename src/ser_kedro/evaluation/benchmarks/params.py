"""Which benchmarks are to be scored."""

from __future__ import annotations

from typing import Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from ser_kedro.preferences.formats.recognise import AUTO, check_format
from ser_kedro.preferences.formats.table import FORMATS
from ser_kedro.preferences.source import PreferenceSource

BENCHMARKS = ("reward_bench", "reward_bench_2", "rm_bench")


class Benchmark(BaseModel):
    """A test set beside the run's own.

    Attributes:
        name: What reports call it.
        format: A format of preference data, ``auto``, or a benchmark:
            ``reward_bench``, ``reward_bench_2``, ``rm_bench``.
        path: File, folder, URL or ``hub://`` place, as of preference data.

    Raises:
        ValueError: If nothing is at ``path``.
        DataError: If the format is not known.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    format: str = AUTO
    path: str = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        """Refuse what cannot be read before anything is trained."""
        if self.format not in BENCHMARKS:
            check_format(self.format, "format", (*BENCHMARKS, AUTO, *FORMATS))
        if not self.source.exists():
            raise ValueError(
                f"{self.path} is not there; give the file, folder, URL or"
                " hub://OWNER/NAME of the test set"
            )
        return self

    @model_serializer(mode="wrap")
    def _serialize(
        self, handler: SerializerFunctionWrapHandler, info: SerializationInfo
    ) -> Any:
        # Inside a job's fingerprint it counts by its content, wherever it lies.
        if info.context and info.context.get("identity"):
            return [self.format, self.source.content("test")]
        return handler(self)

    @property
    def source(self) -> PreferenceSource:
        """The place, as a source of pairs; benchmarks are read as records."""
        known = "pairs" if self.format in BENCHMARKS else self.format
        return PreferenceSource(format=known, path=self.path, test_path=self.path)
