"""Whether the files of finished jobs are still what was written.

``result.json`` holds the size and the digest of every file of its job, and a digest of
itself. An older record holds neither: its job cannot be checked, and counts as whole.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ser_kedro.errors import DamageError, StoreError
from ser_kedro.store.fingerprints import hash_file
from ser_kedro.store.json_io import read_json
from ser_kedro.store.layout import RESULT, STORE, project_root, store_root
from ser_kedro.store.references import OUTPUTS, Reference

_FILES = "files"
_DIGEST = "digest"


def seal(record: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return a job's record with what tells later whether it is whole.

    Args:
        record: What JSON can hold.
        folder: Where the files of the job lie.
    """
    files = {
        path.relative_to(folder).as_posix(): {
            "size": path.stat().st_size,
            "sha256": hash_file(path),
        }
        for path in sorted(folder.rglob("*"))
        # A record that is there already is of a commit that was cut off.
        if path.is_file() and not path.name.startswith(RESULT)
    }
    sealed = {**record, _FILES: files}
    return {**sealed, _DIGEST: _digest(sealed)}


def _digest(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def read_record(folder: Path) -> dict[str, Any]:
    """Return the record of a finished job, having checked all of its files.

    Small files are read each time; large ones once a process, and again when their size
    or their time has changed.

    Raises:
        DamageError: If a file is gone or is not what was written. Says which.
    """
    try:
        record = _sealed_record(folder / RESULT)
        for name, written in record.get(_FILES, {}).items():
            if fault := _fault(folder / name, written):
                raise DamageError(f"{name} {fault}")
    except DamageError as error:
        job = f"{folder.parent.name} {folder.name[:12]}"
        raise DamageError(f"{job}: {error}") from None
    return record


def is_sealed(record: Mapping[str, Any]) -> bool:
    """Whether a record says what the files of its job were."""
    return _FILES in record


def _sealed_record(path: Path) -> dict[str, Any]:
    try:
        record = read_json(path)
        digest = record.pop(_DIGEST, None)
        outputs = OUTPUTS.validate_python(record["outputs"])
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise DamageError(f"{path.name} is missing") from None
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        raise DamageError(f"{path.name} cannot be read") from None
    old = digest is None and not is_sealed(record)
    whole = old or digest == _digest(record)
    if not whole or not all(_lies_in(path.parent, each) for each in outputs.values()):
        raise DamageError(f"{path.name} is not what was written")
    return record


def _fault(path: Path, written: Mapping[str, Any]) -> str | None:
    if not path.is_file():
        return "is missing"
    size = path.stat().st_size
    if size != written["size"]:
        return f"has {size:,} bytes, {written['size']:,} were written"
    if hash_file(path) != written["sha256"]:
        return "has other bytes than were written"
    return None


def check(value: Any) -> None:
    """Check what the references in a value point to.

    Where nothing is left of a job the reference is of no use, but harmless: opening it
    says so.

    Args:
        value: A reference, or a model, mapping or sequence that holds some.

    Raises:
        DamageError: If a file of one of the jobs is not what was written.
        StoreError: If a reference points to a place outside of the store.
    """
    for folder in {_job_folder(reference) for reference in _references(value)}:
        if not folder.exists():
            continue
        try:
            read_record(folder)
        except DamageError as error:
            raise DamageError(f"{error}; run the pipeline again to remake it") from None


def _references(value: Any) -> Iterator[Reference]:
    if isinstance(value, Reference):
        yield value
    inside: Any = ()
    if isinstance(value, BaseModel):
        inside = [getattr(value, name) for name in type(value).model_fields]
    elif isinstance(value, Mapping):
        inside = value.values()
    elif isinstance(value, list | tuple):
        inside = value
    for each in inside:
        yield from _references(each)


def _lies_in(folder: Path, reference: Reference) -> bool:
    inside = os.path.normpath(project_root() / reference.path)
    return Path(inside).is_relative_to(os.path.normpath(folder))


def _job_folder(reference: Reference) -> Path:
    # By the letters: the store itself may be a link to another disk.
    root = Path(os.path.normpath(store_root()))
    place = Path(os.path.normpath(project_root() / reference.path))
    if not place.is_relative_to(root) or len(place.relative_to(root).parts) < 3:
        raise StoreError(
            f"{reference.path}: no place in the store ({STORE.as_posix()}); a reference"
            " was edited, run the pipeline again to write it anew"
        )
    return root.joinpath(*place.relative_to(root).parts[:2])
