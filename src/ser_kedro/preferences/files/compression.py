"""Plain bytes out of files that are compressed, by name or by their first bytes."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, BinaryIO

import pyarrow as pa

from ser_kedro.errors import DataError
from ser_kedro.preferences.records import DropReason, Raw, first_line

CHUNK = 1 << 20
ZIP = ".zip"

_HEAD = 512
_ZIP_MAGIC = b"PK\x03\x04"
_LFS = b"version https://git-lfs.github.com/spec/"
_PAGE = (b"<!doctype html", b"<html")

# So many bytes without the end of a line, out of so much less, fill a memory and are
# no data. Lines that repeat each other may shrink as far, and are read one by one.
_LONGEST, _MOST_TIMES = 64 << 20, 500

# What the decompressors raise about bytes that are wrong or end too early.
_BROKEN = (EOFError, OSError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)


def _ungz(stream: BinaryIO) -> Callable[[int], bytes]:
    return gzip.GzipFile(fileobj=stream, mode="rb").read1


def _unxz(stream: BinaryIO) -> Callable[[int], bytes]:
    return lzma.LZMAFile(stream).read1


def _unzstd(stream: BinaryIO) -> Callable[[int], bytes]:
    unpacked = pa.CompressedInputStream(pa.PythonFile(stream, mode="r"), "zstd")
    # Arrow drops what one call has unpacked before a flaw, so each call is small.
    return lambda size: unpacked.read(min(size, 1024))


# Suffix, first bytes, and what makes a function that reads plain bytes.
_METHODS: dict[str, tuple[bytes, Callable[[BinaryIO], Callable[[int], bytes]]]] = {
    ".gz": (b"\x1f\x8b", _ungz),
    ".bz2": (b"BZh", lambda stream: bz2.BZ2File(stream).read1),
    ".xz": (b"\xfd7zXZ\x00", _unxz),
    ".zst": (b"(\xb5\x2f\xfd", _unzstd),
}
SUFFIXES = (*_METHODS, ZIP)


class _Source(io.RawIOBase):
    """A file of any file system; its disk or network errors become one line."""

    def __init__(self, opened: Any, path: str) -> None:
        self._file, self._path = opened, path
        self.taken = 0
        self._can_seek = self._moves()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._can_seek

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._file.read(len(buffer))
        except Exception as error:  # every file system has its own errors
            raise stopped(self._path, error) from error
        buffer[: len(data)] = data
        self.taken += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._file.seek(offset, whence)
        return int(self._file.tell())

    def tell(self) -> int:
        return int(self._file.tell())

    def _moves(self) -> bool:
        # Some file systems say yes to seekable() and then cannot.
        try:
            self._file.seek(1)
            self._file.seek(0)
        except (OSError, ValueError, NotImplementedError):
            return False
        return True


class _Unpacked(io.RawIOBase):
    """Plain bytes as a function gives them; at a flaw they end, and it is kept."""

    def __init__(
        self,
        read: Callable[[int], bytes],
        packed: Callable[[], int] | None = None,
        path: str = "",
    ) -> None:
        self._next, self.flaw = read, ""
        self._packed, self._path = packed, path
        self.taken = self._line = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self.flaw:
            return 0
        try:
            data = self._next(len(buffer))
        except _BROKEN as error:
            self.flaw = first_line(error)
            return 0
        self.taken += len(data)
        end = data.rfind(b"\n")
        self._line = self._line + len(data) if end < 0 else len(data) - end - 1
        if self._packed is not None and self._line > _LONGEST:
            self._check_size(self._packed())
        buffer[: len(data)] = data
        return len(data)

    def _check_size(self, packed: int) -> None:
        if self.taken > _MOST_TIMES * packed:
            raise DataError(
                f"{self._path}: a line of it has more than {_LONGEST >> 20} MB, packed"
                f" to less than 1/{_MOST_TIMES} of that; if these are data, unpack the"
                " file first"
            )


class Plain(io.BufferedReader):
    """The plain bytes of a file."""

    @property
    def flaw(self) -> str:
        """Why the bytes end before the file does; known once they have been read."""
        return getattr(self.raw, "flaw", "")

    def transform(self, read: Callable[[int], bytes]) -> Plain:
        """Return these bytes as ``read`` gives them, with the flaw of both."""
        return _Transformed(_Unpacked(read), self)

    def random_access(self, stack: ExitStack) -> BinaryIO:
        """Return the bytes as a file in which one can seek; ``stack`` closes it."""
        if self.seekable():
            return self
        copy = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        shutil.copyfileobj(self, copy, CHUNK)
        copy.seek(0)
        return copy


class _Transformed(Plain):
    def __init__(self, raw: _Unpacked, below: Plain) -> None:
        super().__init__(raw, CHUNK)
        self._below = below

    @property
    def flaw(self) -> str:
        return self._below.flaw or super().flaw


def stopped(path: str, error: BaseException) -> DataError:
    """Return the error for a disk or a network that fails while it is read."""
    return DataError(
        f"{path}: reading stopped ({first_line(error)}); try again, or copy the file"
        " to this machine first"
    )


def cut(place: str, flaw: str) -> Raw:
    """Return the item that stands for whatever follows a flaw of a file."""
    return Raw(place, None, DropReason.truncated_file, flaw)


def open_plain(opened: Any, path: str, name: str, packed: int | None = None) -> Plain:
    """Return the plain bytes of a file that was opened.

    Args:
        opened: The file, open for reading bytes.
        path: Where it lies, for messages.
        name: Its name, whose suffix counts where the first bytes say nothing.
        packed: Of the member of an archive, the bytes that it is packed in.

    Raises:
        DataError: If it cannot be read, or is a Git LFS pointer or a web page.
    """
    # The bytes of a member have been unpacked; those of a file come as they are.
    raw: _Source | _Unpacked = _Source(opened, path)
    if packed is not None:
        raw = _Unpacked(opened.read1, lambda: packed, path)
    plain = Plain(raw, CHUNK)
    head = plain.peek(_HEAD)[:_HEAD]
    _check_content(head, path)
    for suffix, (magic, method) in _METHODS.items():
        if head.startswith(magic) or (
            name.lower().endswith(suffix) and not _has_magic(head)
        ):
            unpacked = _Unpacked(method(plain), lambda: raw.taken, path)
            if not head:
                # Python's decompressors take no bytes at all for a whole file.
                unpacked.flaw = "EOFError: the file is empty"
            return Plain(unpacked, CHUNK)
    return plain


def open_archive(opened: Any, path: str, stack: ExitStack) -> zipfile.ZipFile:
    """Return the zip archive in a file that was opened.

    Raises:
        DataError: If it cannot be read, or is a Git LFS pointer or a web page.
        zipfile.BadZipFile: If it is no zip archive, or not all of one.
    """
    plain = Plain(_Source(opened, path), CHUNK)
    _check_content(plain.peek(_HEAD)[:_HEAD], path)
    return stack.enter_context(zipfile.ZipFile(plain.random_access(stack)))


def plain_name(name: str) -> str:
    """Return a name without the suffix of its compression, in small letters."""
    name = name.lower()
    for suffix in _METHODS:
        if name.endswith(suffix):
            return name.removesuffix(suffix)
    return name


def is_zip(head: bytes) -> bool:
    """Say whether first bytes are those of a zip archive."""
    return head.startswith(_ZIP_MAGIC)


def _has_magic(head: bytes) -> bool:
    return any(head.startswith(magic) for magic, _ in _METHODS.values())


def _check_content(head: bytes, path: str) -> None:
    if head.startswith(_LFS):
        raise DataError(
            f"{path}: a Git LFS pointer, which only names the data; run `git lfs"
            " install && git lfs pull` in its repository, or download the file itself"
        )
    if head.lstrip().lower().startswith(_PAGE):
        raise DataError(
            f"{path}: a web page, not data; give the address of the raw file (Raw on"
            " GitHub, /resolve/ instead of /blob/ on the Hugging Face hub)"
        )
