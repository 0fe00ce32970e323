"""What the processes of a launch write, read while they write it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

LAUNCHER_LOG = "launcher.log"


def last_lines(path: Path, count: int = 20) -> list[str]:
    """Return the last lines of a log that say something."""
    if not path.is_file():
        return []
    lines = path.read_text("utf-8", "replace").splitlines()
    return [line.rstrip() for line in lines if line.strip()][-count:]


class Tail:
    """Gives every line of the logs of a folder once, as soon as it is whole."""

    def __init__(self, folder: Path) -> None:
        """Begin at the start of each log."""
        self._folder = folder
        self._offsets: dict[Path, int] = {}

    def read(self) -> Iterator[tuple[str, str]]:
        """Yield who wrote (``rank 1``, ``launcher``) and what, since the last call."""
        for path in sorted(self._folder.glob("*.log")):
            start = self._offsets.get(path, 0)
            with path.open("rb") as file:
                file.seek(start)
                new = file.read()
            whole = new[: new.rfind(b"\n") + 1]
            self._offsets[path] = start + len(whole)
            for line in whole.decode("utf-8", "replace").split("\n"):
                # A progress bar overwrites itself: what it showed last is enough.
                if text := line.rstrip("\r").rpartition("\r")[2].rstrip():
                    yield path.stem.replace("_", " "), text
