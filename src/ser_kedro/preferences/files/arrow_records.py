"""Records of Parquet and Arrow files, whatever other columns they have.

Places are ``FILE:RECORD``, counted from 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ser_kedro.errors import DataError
from ser_kedro.preferences.files.compression import Plain, cut
from ser_kedro.preferences.records import Raw, first_line

_ROWS = 1024
_ARROW_FILE = b"ARROW1\x00\x00"


def read_parquet(stream: Plain, name: str) -> Iterator[Raw]:
    """Stream the records of a Parquet file."""
    with ExitStack() as stack:
        yield from _read_batches(_parquet_batches(stream, stack), stream, name)


def read_arrow(stream: Plain, name: str) -> Iterator[Raw]:
    """Stream the records of an Arrow IPC stream or file (Feather is one)."""
    yield from _read_batches(_arrow_batches(stream), stream, name)


def _parquet_batches(stream: Plain, stack: ExitStack) -> Iterator[pa.RecordBatch]:
    file = pq.ParquetFile(stream.random_access(stack))
    yield from stack.enter_context(file).iter_batches(batch_size=_ROWS)


def _arrow_batches(stream: Plain) -> Iterator[pa.RecordBatch]:
    # A file is a stream between its first bytes and an index, which is not needed.
    if stream.peek(8).startswith(_ARROW_FILE):
        stream.read(8)
    for batch in pa.ipc.open_stream(stream):
        for column in batch.columns:
            _check(column)
        for start in range(0, batch.num_rows, _ROWS):
            yield batch.slice(start, _ROWS)


def _check(column: pa.Array) -> None:
    """Refuse offsets and numbers that lead out of a column's memory.

    Arrow trusts its own files: reading such a column ends the process.

    Raises:
        pa.ArrowInvalid: If there are any. Text that is not UTF-8 is none of them.
    """
    try:
        column.validate(full=True)
    except pa.ArrowInvalid as error:
        if "UTF8" not in str(error):
            raise
        if isinstance(column, pa.DictionaryArray):
            column.indices.validate(full=True)
            ends = pc.min_max(column.indices).as_py().values()
            if not all(
                each is None or 0 <= each < len(column.dictionary) for each in ends
            ):
                raise
            _check(column.dictionary)
        else:
            column.view(_as_bytes(column.type)).validate(full=True)


def _as_bytes(kind: pa.DataType) -> pa.DataType:
    """Return a type with bytes in the place of text, at any depth."""
    types = pa.types
    if types.is_struct(kind):
        return pa.struct([each.with_type(_as_bytes(each.type)) for each in kind])
    if types.is_map(kind):
        return pa.map_(_as_bytes(kind.key_type), _as_bytes(kind.item_type))
    if types.is_fixed_size_list(kind):
        return pa.list_(_as_bytes(kind.value_type), kind.list_size)
    if types.is_list(kind):
        return pa.list_(_as_bytes(kind.value_type))
    if types.is_large_list(kind):
        return pa.large_list(_as_bytes(kind.value_type))
    plain = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary()}
    return plain.get(kind, pa.binary_view() if kind == pa.string_view() else kind)


def _read_batches(
    batches: Iterator[pa.RecordBatch], stream: Plain, name: str
) -> Iterator[Raw]:
    number, flaw = 0, ""
    try:
        for batch in batches:
            for record in records_of_batch(batch):
                number += 1
                yield Raw(f"{name}:{number}", record)
    except DataError:
        raise
    except (pa.ArrowException, OSError, EOFError) as error:
        flaw = first_line(error)
    if flaw or stream.flaw:
        yield cut(f"{name}:{number + 1}", stream.flaw or flaw)


def records_of_batch(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    """Yield the rows of a batch as Python values, converted column by column.

    A value that Python cannot hold (a date in the year 33658) is ``None``. Binary
    values that are UTF-8 become text; text that is not UTF-8 keeps its bytes as half
    surrogates, so that only a pair that uses it is refused. NaN is ``None``. A second
    column of a name gets a number.
    """
    names = unique_names(batch.schema.names)
    columns = [_values(column) for column in batch.columns]
    for row in zip(*columns, strict=True):
        yield dict(zip(names, row, strict=True))


def unique_names(names: list[str]) -> list[str]:
    """Return the names, a repeated one with a number after it: a, a.1, a.2."""
    seen: dict[str, int] = {}
    unique = []
    for name in names:
        count = seen.get(name, 0)
        seen[name] = count + 1
        unique.append(f"{name}.{count}" if count else name)
    return unique


def _values(column: pa.Array) -> list[Any]:
    try:
        # Arrow is slower where it is asked to look for maps.
        maps = "lossy" if "map<" in str(column.type) else None
        values = column.to_pylist(maps_as_pydicts=maps)
    except Exception:  # each type has its own errors: see which values can be had
        values = [_value(scalar) for scalar in column]
    if pa.types.is_floating(column.type):
        return [v if v is not None and math.isfinite(v) else None for v in values]
    if _is_binary(column.type):
        return [_text(value) for value in values]
    return values


def _is_binary(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return (
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
    )


def _text(value: bytes | None) -> str | bytes | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return value


def _value(scalar: Any) -> Any:
    """Return a scalar as far as Python can hold it."""
    if not scalar.is_valid:
        return None
    match scalar:
        case pa.DictionaryScalar():
            value = _value(scalar.value)
        case pa.MapScalar():
            pairs = [_value(pair) for pair in scalar.values]
            value = {str(pair["key"]): pair["value"] for pair in pairs}
        case pa.StructScalar():
            value = {key: _value(item) for key, item in scalar.items()}
        case pa.ListScalar() | pa.LargeListScalar() | pa.FixedSizeListScalar():
            value = [_value(item) for item in scalar.values]
        case pa.StringScalar() | pa.LargeStringScalar() | pa.StringViewScalar():
            value = scalar.as_buffer().to_pybytes().decode("utf-8", "surrogateescape")
        case _:
            value = _plain_value(scalar)
    return value


def _plain_value(scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except Exception:  # each type has its own errors
        return None
