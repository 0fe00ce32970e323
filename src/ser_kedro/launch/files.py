"""Identity of files and folders that the store does not hold."""

from __future__ import annotations

import hashlib
from pathlib import Path


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, read as a stream."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_folder(folder: Path) -> str:
    """Return a hash of the names and contents of all files below ``folder``."""
    whole = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        whole.update(f"{path.relative_to(folder)} {hash_file(path)}\n".encode())
    return whole.hexdigest()


def hub_revision(name: str, revision: str | None) -> str | None:
    """Return the commit of a hub model, as far as it can be known.

    Asks the hub; without a network, the local cache; else the name that was given.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache

    try:
        return HfApi().model_info(name, revision=revision).sha
    except Exception:  # offline, private or not there: loading will say which
        cached = try_to_load_from_cache(name, "config.json", revision=revision)
        return Path(cached).parent.name if isinstance(cached, str) else revision
