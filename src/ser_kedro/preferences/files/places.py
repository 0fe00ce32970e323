"""What lies in a place: a file or all files of a folder, in any file system."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import fsspec
from fsspec.implementations.local import LocalFileSystem

from ser_kedro.errors import DataError, printable
from ser_kedro.preferences.files.containers import KNOWN
from ser_kedro.preferences.files.folder_splits import (
    Layout,
    Wanted,
    read_card,
    read_dict,
)
from ser_kedro.preferences.records import first_line

_OPTIONS = ("split", "subset")
_LARGEST_CARD = 1 << 20


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a place.

    Attributes:
        fs: Its file system.
        path: Its path there.
        base: The place without its options.
        options: What was asked for after ``?``.
        sizes: The path of each file, sorted, with its bytes, ``None`` if not known.
        others: The path of what is no regular file, with what it is.
    """

    fs: Any
    path: str
    base: str
    options: dict[str, str]
    sizes: dict[str, int | None]
    others: dict[str, str] = field(default_factory=dict)

    @property
    def is_file(self) -> bool:
        """Whether the place is a file of its own."""
        return list(self.sizes) == [self.path]

    def name(self, item: str) -> str:
        """Return a short name: the path in the folder, or the file's name.

        Bytes of it that are no UTF-8 are written as escapes, and control characters
        as U+FFFD.
        """
        if not self.is_file:
            name = item.removeprefix(self.path).lstrip("/")
        else:
            # What follows the path in a URL is the server's business.
            name = PurePosixPath(urlsplit(item).path if is_web(item) else item).name
        return printable(os.fsencode(name).decode("utf-8", "backslashreplace"))

    def wanted(self, part: str) -> Wanted:
        """Return the split and the subset that are wanted."""
        split = self.options.get("split")
        default = "test" if part == "test" else "train"
        return Wanted(split or default, split is not None, self.options.get("subset"))

    def layout(self) -> Layout:
        """Return what the folder's own files say about its splits."""
        layout = Layout()
        for item in [] if self.is_file else self.sizes:
            name = self.name(item)
            if name == "README.md":
                layout.card, layout.default = read_card(self._text(item))
            elif name.split("/")[-1] == "dataset_dict.json":
                layout.folders.update(read_dict(self._text(item)))
        return layout

    def _text(self, item: str) -> str:
        with self.fs.open(item, "rb") as file:
            return str(file.read(_LARGEST_CARD).decode("utf-8", "replace"))


def list_place(place: str) -> Listing:
    """List the files of a place.

    Raises:
        DataError: If it is not there, cannot be reached, or has unknown options.
    """
    try:
        return _list(place)
    except DataError:
        raise
    except Exception as error:  # every file system has its own errors
        raise DataError(f"{place}: cannot be reached ({first_line(error)})") from error


def open_file(fs: Any, path: str) -> Any:
    """Open a file for reading bytes."""
    opened = fs.open(path, "rb")
    if is_web(path) and opened.size:
        try:
            opened.seek(opened.size - 1)
            opened.read(1)
            opened.seek(0)
        except ValueError:  # this server gives no parts of a file: all of it, once
            opened.close()
            return fs.open(path, "rb", block_size=0)
    return opened


def is_web(place: str) -> bool:
    """Say whether a place is on a web server, which has no folders."""
    return place.startswith(("http://", "https://"))


def _list(place: str) -> Listing:
    fs, path = fsspec.core.url_to_fs(place, **_web_options(place))
    base = place
    options: dict[str, str] = {}
    # A file may have a question mark in its name; to a web server it means its own.
    if "?" in place and not is_web(place) and not fs.exists(path):
        base, options = _split_options(place)
        fs, path = fsspec.core.url_to_fs(base)
    if is_web(place):
        return Listing(fs, path, base, options, {path: _web_size(fs, path)})
    if fs.isfile(path):
        return Listing(fs, path, base, options, {path: fs.info(path).get("size")})
    if not fs.isdir(path):
        raise DataError(
            f"{base}: no such file or folder; give a file or folder of preference data"
            f" ({KNOWN})"
        )
    found = fs.find(path, detail=True)
    if not found:
        raise DataError(f"{base}: an empty folder; known are {KNOWN}")
    sizes = {item: found[item].get("size") for item in sorted(found)}
    others = {}
    if isinstance(fs, LocalFileSystem):
        kinds = {item: _irregular(Path(item)) for item in sizes}
        others = {item: kind for item, kind in kinds.items() if kind}
    regular = {item: size for item, size in sizes.items() if item not in others}
    return Listing(fs, path, base, options, regular, others)


def _irregular(path: Path) -> str | None:
    """Say what is no file to read: opening a pipe or a device could wait for ever."""
    if path.is_file():
        return None
    if path.is_dir():
        return "a link to a folder; give the folder itself"
    return "not a regular file" if path.exists() else "a link to nothing"


def _web_size(fs: Any, path: str) -> int | None:
    try:
        size: int | None = fs.info(path).get("size")
    except FileNotFoundError as error:  # its cause knows better: not found, forbidden
        cause = first_line(error.__cause__ or error)
        raise DataError(f"{path}: cannot be read ({cause})") from error
    return size


def _split_options(place: str) -> tuple[str, dict[str, str]]:
    base, _, query = place.rpartition("?")
    options = dict(parse_qsl(query))
    if not options or set(options) - set(_OPTIONS):
        raise DataError(
            f"{place}: no such file; to choose from a folder, write FOLDER?split=test"
            f" (known: {', '.join(_OPTIONS)}; joined by &)"
        )
    return base, options


def _web_options(place: str) -> dict[str, Any]:
    if not is_web(place):
        return {}
    import aiohttp  # only fsspec's web server needs it

    # Its five minutes for a whole file are too few for a large one.
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=120)
    return {"client_kwargs": {"timeout": timeout}}
