"""The kinds of files that hold records, and the function that reads each."""

from __future__ import annotations

import html
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath

from ser_kedro.preferences.files.arrow_records import read_arrow, read_parquet
from ser_kedro.preferences.files.compression import SUFFIXES, Plain, plain_name
from ser_kedro.preferences.files.json_records import read_json
from ser_kedro.preferences.files.table_records import read_csv, read_excel, read_tsv
from ser_kedro.preferences.records import Raw

EXCEL = "excel"

KINDS = {
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".jsonlines": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".xlsx": EXCEL,
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
}
READERS: dict[str, Callable[[Plain, str], Iterator[Raw]]] = {
    "json": read_json,
    "jsonl": read_json,
    "csv": read_csv,
    "tsv": read_tsv,
    EXCEL: read_excel,
    "parquet": read_parquet,
    "arrow": read_arrow,
}
KNOWN = f"{', '.join(KINDS)}, each also with {', '.join(SUFFIXES)}"

# Files beside the data, by the names that the datasets library and others give them.
_METADATA = (
    "config.json",
    "dataset_dict.json",
    "dataset_info.json",
    "dataset_infos.json",
    "package.json",
    "state.json",
)
_ADVICE = {
    ".xls": "save it as .xlsx or .csv",
    ".txt": "save the pairs as .jsonl or .csv",
    ".tar": "unpack it first",
    ".tgz": "unpack it first",
    ".rar": "unpack it first",
    ".7z": "unpack it first",
    ".pkl": "save the table as .parquet",
    ".pt": "save the table as .parquet",
}


def kind_of(name: str) -> str | None:
    """Return the kind of a file by its name; ``None`` if it is not known."""
    return KINDS.get(PurePosixPath(plain_name(name)).suffix)


def kind_by_content(head: bytes) -> str:
    """Return the kind of a file without a suffix by its first bytes."""
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        return "arrow"
    return "json"


def reason_not_data(name: str) -> str | None:
    """Say why a file is not read, judged by its name; ``None`` if it is data."""
    path = PurePosixPath(plain_name(name))
    if path.name in _METADATA:
        return "describes a data set, holds no pairs"
    if path.name.startswith("cache-") and path.suffix == ".arrow":
        return "a cache of the datasets library"
    if path.suffix in KINDS:
        return None
    advice = _ADVICE.get(path.suffix, "")
    kind = path.suffix or "no suffix"
    return f"not a kind of data file ({kind}{'; ' if advice else ''}{advice})"


def other_sheets(book: zipfile.ZipFile) -> list[str]:
    """Return the names of the sheets of an Excel file that are not read."""
    try:
        text = book.read("xl/workbook.xml").decode("utf-8", "replace")
    except (zipfile.BadZipFile, KeyError):
        return []  # told when it is read
    names = re.findall(r'<(?:\w+:)?sheet\s[^>]*?name="([^"]*)"', text)
    return [html.unescape(name) for name in names[1:]]
