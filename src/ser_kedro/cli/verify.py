"""``ser-kedro verify``: whether all of the store is still what was written."""

from __future__ import annotations

from collections.abc import Iterator

from ser_kedro.errors import DamageError, StoreError
from ser_kedro.store.integrity import is_sealed, read_record
from ser_kedro.store.layout import finished


def verify() -> Iterator[str]:
    """Read every file of every finished job; yield what to say.

    Raises:
        StoreError: At the end, if a job is damaged.
    """
    jobs = damaged = unknown = 0
    for folder in finished():
        jobs += 1
        try:
            unknown += not is_sealed(read_record(folder))
        except DamageError as error:
            damaged += 1
            yield str(error)
    if damaged:
        raise StoreError(
            f"{damaged} of {jobs:,} finished jobs are damaged; run their pipelines"
            " again: a run sets damaged jobs aside and makes them again"
        )
    yield f"{jobs - unknown:,} finished jobs: every file is what was written"
    if unknown:
        yield f"{unknown:,} older jobs: no digests were recorded, nothing was checked"
