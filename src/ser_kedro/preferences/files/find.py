"""Raw records, streamed from files, folders, URLs and the Hugging Face hub."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from ser_kedro.errors import DataError, printable
from ser_kedro.preferences.files.compression import (
    SUFFIXES,
    ZIP,
    cut,
    is_zip,
    open_archive,
    open_plain,
    stopped,
)
from ser_kedro.preferences.files.containers import (
    EXCEL,
    KNOWN,
    READERS,
    kind_by_content,
    kind_of,
    other_sheets,
    reason_not_data,
)
from ser_kedro.preferences.files.folder_splits import choose
from ser_kedro.preferences.files.hub import HUB, read_hub
from ser_kedro.preferences.files.places import Listing, list_place, open_file
from ser_kedro.preferences.records import Raw, first_line

_BROKEN_ZIP = "broken zip"


@dataclass(frozen=True, slots=True)
class FoundFile:
    """One file of a place.

    Attributes:
        fs: Its file system.
        path: Its path there; of a member of an archive, the archive's.
        name: Its name in the place, such as ``data/p.zip/inner.jsonl``.
        container: How it is read, a key of ``READERS``.
        member: Its name in the archive, if it lies in one.
    """

    fs: Any
    path: str
    name: str
    container: str = ""
    member: str = ""

    @property
    def kind(self) -> str:
        """What counts beside the bytes at ``path``: how, and what of them, is read."""
        return f"{self.container} {self.member}".rstrip()


@dataclass(frozen=True, slots=True)
class Unread:
    """One file of a place that is not read, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Found:
    """The files of a place: those that are read, sorted by path, and the others."""

    files: list[FoundFile]
    unread: list[Unread]


def read_records(place: str, part: str = "train") -> Iterator[Raw]:
    """Stream the records of a place, the bad ones as items with a reason.

    Args:
        place: A file, a folder, a URL that fsspec knows (see ``find_files``), or
            ``hub://OWNER/NAME?split=train&subset=...&data_dir=...&revision=...``.
        part: ``test`` if the records are for testing: where a folder has several splits
            and ``place`` names none, ``test`` is read, else ``train``.

    Returns:
        The records, in the order of the files' names and then of the lines. The place
        of one is the file's name and its line (JSON lines, CSV), row (Excel) or number
        (other JSON, Parquet, Arrow), all counted from 1.

    Raises:
        DataError: If the place does not exist, holds no file of a supported kind, or
            cannot be reached; also while reading, where a connection breaks.
    """
    if place.startswith(HUB):
        return read_hub(place)
    return chain.from_iterable(map(_read_file, find_files(place, part).files))


def unread_files(place: str, part: str = "train") -> list[tuple[str, str]]:
    """Return the files of a place that ``read_records`` leaves out, and why.

    Raises:
        DataError: As ``read_records``.
    """
    if place.startswith(HUB):
        return []
    return [(file.name, file.reason) for file in find_files(place, part).unread]


def find_files(place: str, part: str = "train") -> Found:
    """List the files of a place that is not on the hub.

    Of a folder or a zip archive that has files of several splits, one split is read.
    ``FOLDER?split=test`` chooses it, and ``FOLDER?subset=NAME`` one of the subsets of
    its ``README.md``, as in ``hub://`` places.

    Args:
        place: A file, a folder (searched with its sub-folders), a zip archive, or a URL
            that fsspec knows.
        part: As in ``read_records``.

    Raises:
        DataError: As ``read_records``.
    """
    listing = list_place(place)
    sorter = _Sorter(listing)
    sorter.unread = {listing.name(item): kind for item, kind in listing.others.items()}
    try:
        for item, size in listing.sizes.items():
            sorter.add(FoundFile(listing.fs, item, listing.name(item)), size)
        layout = listing.layout()
    except DataError:
        raise
    except Exception as error:  # every file system has its own errors
        raise DataError(f"{place}: cannot be read ({first_line(error)})") from error
    if not sorter.files:
        raise _nothing_to_read(listing, sorter.unread)
    names = [file.name for file in sorter.files]
    others = choose(names, layout, listing.wanted(part), listing.base)
    unread = sorted({**sorter.unread, **others}.items())
    return Found(
        files=[file for file in sorter.files if file.name not in others],
        unread=[Unread(name, reason) for name, reason in unread],
    )


def place_exists(place: str) -> bool:
    """Say whether a place is there. The hub is not asked: there, always true."""
    if place.startswith(HUB):
        return True
    try:
        list_place(place)
    except DataError:  # unknown protocol, no access: not there for us
        return False
    return True


@dataclass
class _Sorter:
    """Puts each file among those to read or those not to, with the reason."""

    listing: Listing
    files: list[FoundFile] = field(default_factory=list)
    unread: dict[str, str] = field(default_factory=dict)

    def add(self, file: FoundFile, size: int | None) -> None:
        parts = file.name.split("/")
        for depth, part in enumerate(parts, 1):
            if part.startswith(".") or part == "__MACOSX":
                folder = "/" * (depth < len(parts))
                self.unread["/".join(parts[:depth]) + folder] = "hidden"
                return
        last = parts[-1].lower()
        kind, reason = kind_of(last), reason_not_data(last)
        if self.listing.is_file and "." not in last and not file.member:
            kind, reason = kind_by_content(_head(file)), None
        if not file.member and (last.endswith(ZIP) or _is_local_zip(file, kind)):
            self._add_members(file)
        elif reason or kind is None:
            self.unread[file.name] = reason or "not a kind of data file"
        elif size == 0 and not last.endswith(SUFFIXES):
            self.unread[file.name] = "the file is empty"
        else:
            self.files.append(replace(file, container=kind))
            if kind == EXCEL and not file.member:
                self._add_sheets(file)

    def _add_members(self, file: FoundFile) -> None:
        try:
            with ExitStack() as stack:
                opened = stack.enter_context(open_file(file.fs, file.path))
                archive = open_archive(opened, file.path, stack)
                members = [info for info in archive.infolist() if not info.is_dir()]
        except zipfile.BadZipFile:
            self.files.append(replace(file, container=_BROKEN_ZIP))
            return
        for info in sorted(members, key=lambda info: info.filename):
            name = f"{file.name}/{printable(info.filename)}"
            self.add(replace(file, name=name, member=info.filename), info.file_size)

    def _add_sheets(self, file: FoundFile) -> None:
        try:
            with ExitStack() as stack:
                opened = stack.enter_context(open_file(file.fs, file.path))
                sheets = other_sheets(open_archive(opened, file.path, stack))
        except zipfile.BadZipFile:
            return  # said when it is read
        for sheet in sheets:
            self.unread[f"{file.name}, sheet {sheet}"] = "only the first sheet is read"


def _head(file: FoundFile) -> bytes:
    with open_file(file.fs, file.path) as opened:
        return bytes(opened.read(8))


def _is_local_zip(file: FoundFile, kind: str | None) -> bool:
    # Elsewhere, opening every file of a folder would take too long.
    is_local = isinstance(file.fs, LocalFileSystem)
    return bool(kind) and kind != EXCEL and is_local and is_zip(_head(file))


def _nothing_to_read(listing: Listing, unread: dict[str, str]) -> DataError:
    if listing.is_file and list(unread) == [listing.name(listing.path)]:
        reason = next(iter(unread.values()))
        advice = f"known are {KNOWN}" if "kind" in reason else "give the data itself"
        return DataError(f"{listing.base}: {reason}; {advice}")
    shown = "; ".join(f"{name}: {reason}" for name, reason in list(unread.items())[:3])
    more = f" and {len(unread) - 3} more" if len(unread) > 3 else ""
    return DataError(
        f"{listing.base}: no data file among {len(unread)} files ({shown}{more});"
        f" known are {KNOWN}"
    )


def _read_file(file: FoundFile) -> Iterator[Raw]:
    with ExitStack() as stack:
        try:
            if file.container == _BROKEN_ZIP:
                yield cut(f"{file.name}:1", "not a zip archive, or not all of one")
                return
            opened, packed = stack.enter_context(open_file(file.fs, file.path)), None
            if file.member:
                archive = open_archive(opened, file.path, stack)
                packed = archive.getinfo(file.member).compress_size
                opened = stack.enter_context(archive.open(file.member))
            plain = open_plain(opened, file.path, file.name, packed)
            if file.container != EXCEL and is_zip(plain.peek(4)):
                raise DataError(f"{file.path}: a zip archive; give it the suffix {ZIP}")
            yield from READERS[file.container](plain, file.name)
        except DataError:
            raise
        except (NotImplementedError, RuntimeError) as error:
            if not file.member:
                raise stopped(file.path, error) from error
            raise DataError(
                f"{file.path}: {file.member} cannot be unpacked ({first_line(error)});"
                " unpack the archive first"
            ) from error
        except Exception as error:  # bad rows are items: this is a disk or a network
            raise stopped(file.path, error) from error
