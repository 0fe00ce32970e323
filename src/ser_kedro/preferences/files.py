"""Raw records, streamed from files, folders, URLs and the Hugging Face hub."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import PurePosixPath
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from ser_kedro.errors import DataError
from ser_kedro.preferences.hub import HUB, read_hub
from ser_kedro.preferences.records import DropReason, Raw, first_line

_KINDS = {
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
_GZIP = b"\x1f\x8b"
_CUT = (EOFError, gzip.BadGzipFile, zlib.error)
_BAD_JSON = (ValueError, RecursionError)
_SPACE = re.compile(r"\s*")
_ROWS = 1024


@dataclass(frozen=True, slots=True)
class FoundFile:
    """One file of a place: its file system, its path there, a short name, its kind."""

    fs: Any
    path: str
    name: str
    kind: str


def read_records(place: str) -> Iterator[Raw]:
    """Stream the records of a place, the bad ones as items with a reason.

    Args:
        place: A file, a folder, a URL that fsspec knows, or
            ``hub://OWNER/NAME?split=train&subset=...&data_dir=...&revision=...``.

    Returns:
        The records, in the order of the files' names and then of the lines.

    Raises:
        DataError: If the place does not exist, holds no file of a supported kind, or
            cannot be reached; also while reading, where a connection breaks.
    """
    if place.startswith(HUB):
        return read_hub(place)
    return chain.from_iterable(map(_read_file, find_files(place)))


def find_files(place: str) -> list[FoundFile]:
    """List the supported files of a place that is not on the hub, sorted by path.

    Args:
        place: A file, a folder (searched with its sub-folders, hidden files left out)
            or a URL that fsspec knows.

    Raises:
        DataError: As ``read_records``.
    """
    try:
        fs, path = fsspec.core.url_to_fs(place)
        if fs.isfile(path):
            inside = [path]
        elif fs.isdir(path):
            inside = sorted(fs.find(path))
        else:
            inside = []
    except Exception as error:  # every file system has its own errors
        raise DataError(f"{place}: cannot be reached ({first_line(error)})") from error
    kinds = ", ".join(_KINDS)
    if not inside:
        raise DataError(
            f"{place}: no such file, or an empty folder; give a file or folder of"
            f" preference data ({kinds}, each also with .gz)"
        )
    found = []
    for item in inside:
        name = item.removeprefix(path).lstrip("/") or PurePosixPath(item).name
        kind = _kind(name)
        if kind and not any(part.startswith(".") for part in name.split("/")[:-1]):
            found.append(FoundFile(fs, item, name, kind))
    if not found:
        raise DataError(f"{place}: not a supported kind of file; known are {kinds}")
    return found


def place_exists(place: str) -> bool:
    """Say whether a place is there. The hub is not asked: there, always true."""
    if place.startswith(HUB):
        return True
    try:
        fs, path = fsspec.core.url_to_fs(place)
        return bool(fs.exists(path))
    except Exception:  # unknown protocol, no access: not there for us
        return False


def _kind(name: str) -> str | None:
    path = PurePosixPath(name.lower().removesuffix(".gz"))
    return None if path.name.startswith(".") else _KINDS.get(path.suffix)


def _read_file(file: FoundFile) -> Iterator[Raw]:
    with ExitStack() as stack:
        try:
            stream = stack.enter_context(file.fs.open(file.path, "rb"))
            magic = stream.read(2)
            stream.seek(0)
            zipped = file.name.lower().endswith(".gz")
            if zipped and not magic:
                # Python's gzip takes no bytes at all for a whole file.
                yield _cut(f"{file.name}:1", EOFError("the file is empty"))
                return
            if zipped or magic == _GZIP:
                stream = stack.enter_context(gzip.GzipFile(fileobj=stream))
            if file.kind == "jsonl":
                yield from _read_lines(stream, file.name)
            elif file.kind == "json":
                yield from _read_document(stream, file.name)
            else:
                yield from _read_parquet(stream, file.name)
        except Exception as error:  # bad rows are items: this is a disk or a network
            raise DataError(
                f"{file.path}: reading stopped ({first_line(error)}); try again, or"
                " copy the file to this machine first"
            ) from error


def _read_lines(lines: Iterable[bytes], name: str) -> Iterator[Raw]:
    number = 0
    try:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield _from_line(line, f"{name}:{number}")
    except _CUT as error:
        yield _cut(f"{name}:{number + 1}", error)


def _from_line(line: bytes, place: str) -> Raw:
    try:
        return _raw(place, json.loads(line.decode("utf-8-sig")))
    except UnicodeDecodeError as error:
        detail = f"byte {error.start} of the line is not UTF-8"
        return Raw(place, None, DropReason.invalid_utf8, detail)
    except _BAD_JSON as error:
        return Raw(place, None, DropReason.invalid_json, first_line(error))


def _raw(place: str, value: Any) -> Raw:
    if isinstance(value, dict):
        return Raw(place, value)
    detail = f"the record is {type(value).__name__}, not an object"
    return Raw(place, None, DropReason.wrong_types, detail)


def _cut(place: str, error: BaseException) -> Raw:
    return Raw(place, None, DropReason.truncated_file, first_line(error))


def _read_document(stream: Any, name: str) -> Iterator[Raw]:
    """Read a JSON file: a list, an object with a list ``data``, or lines after all."""
    data = bytearray()
    ending: tuple[DropReason, str] | None = None
    try:
        # read1 hands out what was decompressed before a flaw; read would lose it.
        read = getattr(stream, "read1", stream.read)
        while chunk := read(1 << 20):
            data += chunk
    except _CUT as error:
        ending = DropReason.truncated_file, first_line(error)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        text = data[: error.start].decode("utf-8-sig")
        ending = ending or (
            DropReason.invalid_utf8,
            f"byte {error.start} of the file is not UTF-8",
        )
    if ending is None and _is_lines(text):
        yield from _read_lines(bytes(data).splitlines(), name)
        return
    number = 0
    try:
        for number, item in enumerate(_items(text), 1):
            yield _raw(f"{name}:{number}", item)
    except _BAD_JSON as error:
        ending = ending or (DropReason.invalid_json, first_line(error))
    if ending is not None:
        yield Raw(f"{name}:{number + 1}", None, *ending)


def _is_lines(text: str) -> bool:
    # Many a file on the hub is called .json and holds a record a line.
    try:
        _, end = json.JSONDecoder().raw_decode(text, _space(text, 0))
    except _BAD_JSON:
        return False
    return bool(text[end:].strip())


def _items(text: str) -> Iterator[Any]:
    """Yield the records one by one, so that those before a flaw are not lost."""
    start = _space(text, 0)
    if text[start : start + 1] != "[":
        value = json.loads(text)
        rows = value.get("data") if isinstance(value, dict) else None
        yield from rows if isinstance(rows, list) else [value]
        return
    decoder = json.JSONDecoder()
    place = _space(text, start + 1)
    while text[place : place + 1] != "]":
        item, place = decoder.raw_decode(text, place)
        yield item
        place = _space(text, place)
        if text[place : place + 1] == ",":
            place = _space(text, place + 1)
        elif text[place : place + 1] != "]":
            raise ValueError(f"',' or ']' expected at character {place}")


def _space(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    return found.end() if found else place


def _read_parquet(stream: Any, name: str) -> Iterator[Raw]:
    number = 0
    with ExitStack() as stack:
        try:
            if isinstance(stream, gzip.GzipFile):
                # Parquet is read from its end, which gzip cannot seek.
                plain = stack.enter_context(tempfile.TemporaryFile())
                shutil.copyfileobj(stream, plain)
                plain.seek(0)
                stream = plain
            file = stack.enter_context(pq.ParquetFile(stream))
            for batch in file.iter_batches(batch_size=_ROWS):
                yield from _rows(batch, name, number)
                number += batch.num_rows
        except (*_CUT, pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            yield _cut(f"{name}:{number + 1}", error)
        except OSError as error:
            if error.errno is not None:
                raise
            # Arrow's own, about bytes that do not decompress or do not fit.
            yield _cut(f"{name}:{number + 1}", error)


def _rows(batch: pa.RecordBatch, name: str, before: int) -> Iterator[Raw]:
    try:
        for number, record in enumerate(batch.to_pylist(), before + 1):
            yield Raw(f"{name}:{number}", record)
        return
    except UnicodeDecodeError:
        pass  # some row is not UTF-8: see which
    for row in range(batch.num_rows):
        place = f"{name}:{before + row + 1}"
        try:
            yield Raw(place, batch.slice(row, 1).to_pylist()[0])
        except UnicodeDecodeError as error:
            yield Raw(place, None, DropReason.invalid_utf8, first_line(error))
