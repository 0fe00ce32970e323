"""Where preference pairs come from: a place, a format and what stands for both."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, model_validator

from ser_kedro.errors import DataError
from ser_kedro.preferences.demo_world.world import WorldParams, draw_pairs
from ser_kedro.preferences.files import (
    FoundFile,
    find_files,
    place_exists,
    read_records,
)
from ser_kedro.preferences.formats import FORMATS, BadRow, DropReason, last_turn_only
from ser_kedro.preferences.hub import HUB, commit_of
from ser_kedro.preferences.records import Raw, first_line
from ser_kedro.preferences.schema import Pair
from ser_kedro.store.fingerprints import hash_file
from ser_kedro.store.layout import project_root

WORLD = "demo_world"
KNOWN_FORMATS = (*FORMATS, WORLD)

Part = Literal["train", "test"]


@dataclass(frozen=True, slots=True)
class Dropped:
    """A row that was read and not used: why, where, and what exactly."""

    reason: DropReason
    place: str
    detail: str


class PreferenceSource(BaseModel):
    """Preference pairs of one format, in one place.

    Attributes:
        format: A name in ``KNOWN_FORMATS``.
        path: File, folder, URL or ``hub://`` place of the pairs; a relative path may
            also start at the project's root. Not for ``demo_world``.
        test_path: The same, of pairs kept for testing; ``None`` if there are none.
        single_turn: Keep only the last user turn of every prompt.
        world: What ``demo_world`` is like; its own defaults if ``None``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: str
    path: str | None = None
    test_path: str | None = None
    single_turn: bool = False
    world: WorldParams | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        """Refuse what cannot be read before anything is."""
        if self.format not in KNOWN_FORMATS:
            close = difflib.get_close_matches(self.format, KNOWN_FORMATS, 1, 0.4)
            hint = f", did you mean {close[0]}?" if close else ""
            known = ", ".join(KNOWN_FORMATS)
            raise DataError(f"format={self.format!r}: unknown{hint} (known: {known})")
        if self.format == WORLD:
            if self.path is not None or self.test_path is not None:
                raise DataError(
                    f"path={self.path or self.test_path}: format={WORLD} reads no file;"
                    f" give the format of yours ({', '.join(FORMATS)})"
                )
        elif self.path is None:
            raise DataError(
                f"format={self.format}: path is missing; give the file, folder, URL or"
                " hub://OWNER/NAME of your preference data"
            )
        elif self.world is not None:
            raise DataError(f"world: is for format={WORLD}, not {self.format}")
        return self

    @property
    def known_world(self) -> WorldParams | None:
        """The demo world, whose gold reward is known; ``None`` for other data."""
        return (self.world or WorldParams()) if self.format == WORLD else None

    @property
    def has_test(self) -> bool:
        """Whether the pairs for testing come separately."""
        return self.format == WORLD or self.test_path is not None

    @property
    def identity(self) -> str:
        """Hash of the content and of how it is read, 32 hexadecimal digits.

        A local file counts by its bytes, wherever it lies; one behind a URL by what its
        file system says about it; a data set of the hub by its name and revision.

        Raises:
            DataError: If a place is not there.
        """
        if self.format == WORLD:
            content: object = (self.world or WorldParams()).model_dump(mode="json")
        else:
            content = [self._content("train")]
            if self.has_test:
                content.append(self._content("test"))
        text = json.dumps([self.format, self.single_turn, content], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def pairs(self, part: Part) -> Iterator[Pair | Dropped]:
        """Stream the pairs of a part, and what is dropped between them.

        Args:
            part: ``train`` or ``test``.

        Raises:
            DataError: If the place cannot be read, or there is no such part.
        """
        items: Iterator[Pair | Dropped]
        if self.format == WORLD:
            items = draw_pairs(self.world or WorldParams(), part)
        else:
            items = self._parse(read_records(self.place(part)))
        return map(_last_turn, items) if self.single_turn else items

    def exists(self) -> bool:
        """Whether the pairs are there, as far as can be said without the hub."""
        return self.format == WORLD or place_exists(self.place("train"))

    def place(self, part: Part) -> str:
        """Return where a part lies; ``demo_world`` lies nowhere.

        Raises:
            DataError: If there is no such place.
        """
        path = self.path if part == "train" else self.test_path
        if path is None:
            raise DataError(f"format={self.format}: no path given for the {part} split")
        return _resolve(path)

    def _parse(self, raws: Iterator[Raw]) -> Iterator[Pair | Dropped]:
        parse = FORMATS[self.format]
        for raw in raws:
            if raw.record is None:
                reason = raw.reason or DropReason.wrong_types
                yield Dropped(reason, raw.place, raw.detail)
                continue
            try:
                for pair in parse(raw.record):
                    yield replace(pair, place=raw.place)
            except BadRow as bad:
                yield Dropped(bad.reason, raw.place, bad.detail)

    def _content(self, part: Part) -> list[str]:
        place = self.place(part)
        if place.startswith(HUB):
            return [place, str(commit_of(place))]
        return sorted(_fingerprint(file, place) for file in find_files(place))


def _last_turn(item: Pair | Dropped) -> Pair | Dropped:
    return last_turn_only(item) if isinstance(item, Pair) else item


def _resolve(path: str) -> str:
    if "://" in path:
        return path
    local = Path(path).expanduser()
    if not local.is_absolute() and not local.exists():
        local = project_root() / local
    return str(local.absolute())


def _fingerprint(file: FoundFile, place: str) -> str:
    if "://" in place and urlsplit(place).scheme not in ("file", "local"):
        try:
            return f"{file.kind} {file.fs.checksum(file.path)}"
        except Exception as error:  # every file system has its own errors
            raise DataError(f"{place}: cannot be read ({first_line(error)})") from error
    return f"{file.kind} {hash_file(Path(file.path))}"
