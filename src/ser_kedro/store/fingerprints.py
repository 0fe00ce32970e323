"""Identity of files and folders that the store does not hold."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Literal

# A job is asked for its fingerprint many times, and a model weighs gigabytes: what is
# larger than this many bytes is read again only if its size or its time has changed.
_SMALL = 2**20
# By inode: weights are renamed with their folder, and linked from model to model.
_read: dict[tuple[int, int, int, int], str] = {}


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, read as a stream."""
    now = path.stat()
    if now.st_size < _SMALL:
        return _hash_bytes(path)
    seen = (now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns)
    if seen not in _read:
        _read[seen] = _hash_bytes(path)
    return _read[seen]


def _hash_bytes(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_folder(folder: Path) -> str:
    """Return a hash of the names and contents of all files below ``folder``."""
    whole = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        whole.update(f"{path.relative_to(folder)} {hash_file(path)}\n".encode())
    return whole.hexdigest()


@cache
def hub_revision(
    name: str,
    revision: str | None,
    kind: Literal["model", "dataset"] = "model",
) -> str | None:
    """Return the commit of a model or data set of the hub, as far as it can be known.

    Asks the hub; without a network, the local cache; else the name that was given.
    Once a process: a job must not change its fingerprint while it runs.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        return HfApi().repo_info(name, revision=revision, repo_type=kind).sha
    except HFValidationError:
        return revision  # no name of the hub: loading will say so
    except Exception:  # offline, private or not there: loading will say which
        file = "config.json" if kind == "model" else "README.md"
        cached = try_to_load_from_cache(name, file, revision=revision, repo_type=kind)
        return Path(cached).parent.name if isinstance(cached, str) else revision
