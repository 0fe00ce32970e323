"""Where things lie: the project, its store, a folder a finished job."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

STORE = Path("data") / "store"
RESULT = "result.json"
PROJECT_VARIABLE = "SER_KEDRO_PROJECT"


@cache
def _find_project(start: Path) -> Path:
    for folder in (start, *start.parents):
        pyproject = folder / "pyproject.toml"
        if pyproject.is_file() and "[tool.kedro]" in pyproject.read_text("utf-8"):
            return folder
    return start


def project_root() -> Path:
    """Return the folder of the Kedro project that this process works on.

    The environment variable ``SER_KEDRO_PROJECT`` (which the project's hooks set, so
    that child processes agree) wins over the nearest parent of the working directory
    that holds a Kedro ``pyproject.toml``.
    """
    named = os.environ.get(PROJECT_VARIABLE)
    return Path(named) if named else _find_project(Path.cwd())


def store_root() -> Path:
    """Return the absolute path of the store, which all environments share."""
    return project_root() / STORE


def finished(stage: str = "*") -> Iterator[Path]:
    """Yield the folders of the finished jobs of a stage, or of all, by name."""
    for folder in sorted(store_root().glob(f"{stage}/*")):
        # A name with a dot is work that was begun, its log, or what was set aside.
        if folder.is_dir() and "." not in folder.name:
            yield folder


def link(source: str, target: str) -> None:
    """Link a file, which may weigh gigabytes; copy it where there are no hard links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy(source, target)
