"""Records of JSON files: a record a line, or documents of any layout.

Places are ``FILE:LINE`` where every record has a line of its own, else
``FILE:RECORD``, both counted from 1.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Generator, Iterable, Iterator
from itertools import chain
from typing import Any

from ser_kedro.errors import DataError
from ser_kedro.preferences.files.compression import Plain, cut
from ser_kedro.preferences.files.json_layouts import as_raw, records_of
from ser_kedro.preferences.records import DropReason, Raw, first_line

# NaN and Infinity are not JSON, but Python and pandas write them: no value.
DECODER = json.JSONDecoder(parse_constant=lambda name: None)
BAD_JSON = (ValueError, RecursionError)

_BETWEEN = re.compile(r"[\s,]*")
_NEXT_OBJECT = re.compile(r"^\{", re.MULTILINE)
# What "surrogateescape" makes of bytes that are not UTF-8.
_NO_TEXT = re.compile("[\udc80-\udcff]")
_OPENING = re.compile(r"\[\s*(?=\{|$)")
_LOOK = 20
_MOST_FLAWS = 100
_MOST_EMPTY = 1_000_000


def read_json(stream: Plain, name: str) -> Iterator[Raw]:
    """Stream the records of a JSON file, whatever its layout.

    Lines are streamed. Everything else is one document in memory: lists and objects
    one after the other, over as many lines as they like, or a layout that
    ``records_of`` knows.
    """
    stream = as_utf8(stream)
    lines = _lines(stream, name)
    opening, by_line = _open_lines(lines)
    if by_line:
        yield from _read_lines(chain(opening, lines), stream, name)
        return
    data = b"".join(chain(opening, iter(stream.read1, b"")))
    yield from _read_document(data, stream.flaw, name)


def as_utf8(stream: Plain) -> Plain:
    """Return UTF-16 and UTF-32 as UTF-8, and lines that end with CR alone as lines."""
    head = stream.peek(1)
    encoding = json.detect_encoding(head[:4])
    if not encoding.startswith("utf-8"):
        # Half a surrogate pair passes, and then is a flaw of its own line.
        decoder = codecs.getincrementaldecoder(encoding)("surrogatepass")
        wide = stream

        def recode(size: int) -> bytes:
            while data := wide.read1(size // 4):
                if text := decoder.decode(data):
                    return text.encode("utf-8", "surrogatepass")
            if decoder.getstate()[0]:
                decoder.reset()
                raise EOFError(f"the {encoding} text ends within a character")
            return b""

        stream = wide.transform(recode)
        head = stream.peek(1)
    if b"\r" in head and b"\n" not in head:
        old = stream
        stream = old.transform(lambda size: old.read1(size).replace(b"\r", b"\n"))
    return stream


def _lines(stream: Plain, name: str) -> Iterator[bytes]:
    """Yield the lines of a file.

    Raises:
        DataError: If so many empty ones follow each other that it holds no data: a
            gigabyte of them takes a megabyte when compressed.
    """
    empty = 0
    for line in stream:
        empty = empty + 1 if line.isspace() else 0
        if empty > _MOST_EMPTY:
            raise DataError(
                f"{name}: {_MOST_EMPTY:,} empty lines follow each other; give a file"
                " of records"
            )
        yield line


def _open_lines(stream: Iterator[bytes]) -> tuple[list[bytes], bool]:
    """Read some lines ahead, and say whether the file has a record a line.

    It has if one of the first lines is a record, but not all of the file, or if all
    of them would be records but for mistakes in them.
    """
    lines: list[bytes] = []
    full = 0
    is_record = False
    alike = True
    while full < _LOOK and (line := next(stream, b"")):
        lines.append(line)
        if not line.strip():
            continue
        if is_record:
            return lines, True
        full += 1
        is_record = _is_record(line)
        alike = (
            alike and line.startswith(b"{") and line.rstrip(b" ,\r\n").endswith(b"}")
        )
    return lines, full > 1 and (is_record or alike)


def _is_record(line: bytes) -> bool:
    if not line.startswith((b"{", codecs.BOM_UTF8)):
        return False
    try:
        return isinstance(DECODER.decode(line.decode("utf-8-sig")), dict)
    except BAD_JSON:
        return False


def _read_lines(lines: Iterable[bytes], stream: Plain, name: str) -> Iterator[Raw]:
    decode = DECODER.decode
    number = lists = 0
    half = False
    for number, line in enumerate(lines, 1):
        try:
            value = decode(line.decode())
        except BAD_JSON:
            half = bool(stream.flaw) and not line.endswith(b"\n")
            if half:
                break
            lists += yield from _odd_line(line, f"{name}:{number}")
            continue
        if type(value) is dict:
            yield Raw(f"{name}:{number}", value)
        else:
            yield from _from_value(value, f"{name}:{number}")
    if stream.flaw:
        # Half a line is no line: the flaw stands for it.
        yield cut(f"{name}:{number + (not half)}", stream.flaw)
    elif lists > 0:
        detail = "the list that was opened with [ is not closed"
        yield Raw(f"{name}:{number + 1}", None, DropReason.invalid_json, detail)


def _odd_line(line: bytes, place: str) -> Generator[Raw, None, int]:
    """Read a line that is no JSON; return how many lists it opens and does not close.

    It may be blank, hold several records or a comma after them, or begin or end a list.
    """
    try:
        text = line.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        detail = f"byte {error.start} of the line is not UTF-8"
        yield Raw(place, None, DropReason.invalid_utf8, detail)
        return 0
    at = depth = 0
    while at < len(text):
        try:
            value, at = DECODER.raw_decode(text, at)
        except BAD_JSON as error:
            if text[at] == "]":
                depth -= 1
                at += 1
            elif opening := _OPENING.match(text, at):
                depth += 1
                at = opening.end()
            elif text[at] != ",":
                yield Raw(place, None, DropReason.invalid_json, first_line(error))
                return depth
        else:
            yield from _from_value(value, place)
        at = _skip(text, at)
    return depth


def _from_value(value: Any, place: str) -> Iterator[Raw]:
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for item in value:
            yield as_raw(place, item)
    else:
        yield as_raw(place, value)


def _read_document(data: bytes, flaw: str, name: str) -> Iterator[Raw]:
    text = data.decode("utf-8-sig", "surrogateescape")
    del data
    number = 0
    error = ""
    damaged = _NO_TEXT.search(text) is not None
    only = None if flaw else _only_value(text)
    if only is not None:
        yield from records_of(only, name)
        return
    for start, end, value in _values(text):
        if isinstance(value, BaseException):
            error = first_line(value)
            if end == len(text):
                break  # to be told once, with what is known about the file
            number += 1
            yield Raw(f"{name}:{number}", None, DropReason.invalid_json, error)
            error = ""
            continue
        number += 1
        place = f"{name}:{number}"
        if damaged and _NO_TEXT.search(text, start, end):
            detail = f"the record at character {start} is not UTF-8"
            yield Raw(place, None, DropReason.invalid_utf8, detail)
        else:
            yield as_raw(place, value)
    if flaw:
        yield cut(f"{name}:{number + 1}", flaw)
    elif error:
        yield Raw(f"{name}:{number + 1}", None, DropReason.invalid_json, error)


def _only_value(text: str) -> dict[str, Any] | None:
    """Return the object that is all of a document."""
    at = _skip(text, 0)
    if text[at : at + 1] != "{":
        return None
    try:
        value, end = DECODER.raw_decode(text, at)
    except BAD_JSON:
        return None
    return value if _skip(text, end) == len(text) else None


def _values(text: str) -> Iterator[tuple[int, int, Any]]:
    """Yield start, end and value of the records; an error where there is no value.

    Lists are opened one level deep. Commas may be missing, or be too many. After an
    error, reading goes on where a line starts with an object; after many, it ends.
    """
    at, is_open, flaws = _skip(text, 0), False, 0
    while at < len(text):
        if text[at] in "[]" and is_open == (text[at] == "]"):
            is_open = not is_open
            at = _skip(text, at + 1)
            continue
        start = at
        try:
            value, at = DECODER.raw_decode(text, start)
        except BAD_JSON as error:
            flaws += 1
            found = _NEXT_OBJECT.search(text, start + 1)
            # Each flaw costs a count of all lines before it.
            at = found.start() if found and flaws < _MOST_FLAWS else len(text)
            value = error
            is_open = is_open and at < len(text)
        else:
            flaws = 0
        yield start, at, value
        at = _skip(text, at)
    if is_open:
        yield at, at, ValueError("the list that was opened with [ is not closed")


def _skip(text: str, at: int) -> int:
    """Return where the white space and the commas end."""
    found = _BETWEEN.match(text, at)
    return found.end() if found else at
