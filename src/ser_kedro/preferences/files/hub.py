"""Raw records, streamed from a data set on the Hugging Face hub."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

from ser_kedro.errors import DataError
from ser_kedro.preferences.records import Raw, first_line
from ser_kedro.store.fingerprints import hub_revision

HUB = "hub://"
_OPTIONS = ("split", "subset", "data_dir", "revision")


def read_hub(place: str) -> Iterator[Raw]:
    """Stream the records of ``hub://OWNER/NAME?split=...`` (see ``read_records``).

    Raises:
        DataError: If the place is not well-formed, or the hub does not give it.
    """
    name, options = _named(place)
    unknown = sorted(set(options) - set(_OPTIONS))
    if not name or unknown:
        raise DataError(
            f"{place}: not a data set of the hub; write hub://OWNER/NAME, then as"
            f" needed ?split=train and, joined by &, {', '.join(_OPTIONS[1:])}"
        )
    from datasets import load_dataset

    # Its retries would bury the one line that says what to do.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        stream = load_dataset(
            name,
            options.get("subset"),
            data_dir=options.get("data_dir"),
            split=options.get("split", "train"),
            revision=options.get("revision"),
            streaming=True,
        )
    except Exception as error:  # network, rights, names: the library has many
        raise _unreachable(place, error) from error
    return _records(place, cast("Iterable[dict[str, Any]]", stream))


def commit_of(place: str) -> str | None:
    """Return the commit of a place on the hub, as far as it can be known."""
    name, options = _named(place)
    return hub_revision(name, options.get("revision"), "dataset")


def _named(place: str) -> tuple[str, dict[str, str]]:
    parts = urlsplit(place)
    return f"{parts.netloc}{parts.path}".strip("/"), dict(parse_qsl(parts.query))


def _records(place: str, stream: Iterable[dict[str, Any]]) -> Iterator[Raw]:
    try:
        for number, record in enumerate(stream, 1):
            yield Raw(f"{place}:{number}", record)
    except Exception as error:  # half a data set must not pass for a whole one
        raise _unreachable(place, error) from error


def _unreachable(place: str, error: Exception) -> DataError:
    return DataError(
        f"{place}: cannot be read from the Hugging Face hub ({first_line(error)});"
        " to use a local copy, kedro run --pipelines self_evolve --env own --params"
        " path=FILE,format=FORMAT, or in the same env --params"
        " path=FILE,test_path=FILE (test_path=null holds some pairs out)"
    )
