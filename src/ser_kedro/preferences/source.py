"""Where preference pairs come from: a place, a format and what stands for both."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ser_kedro.errors import DataError, without_secrets
from ser_kedro.preferences.demo_world.world import WorldParams, draw_pairs
from ser_kedro.preferences.files.find import (
    FoundFile,
    find_files,
    place_exists,
    read_records,
    unread_files,
)
from ser_kedro.preferences.files.hub import HUB, commit_of
from ser_kedro.preferences.formats.reader import Dropped, How, Item, PairReader
from ser_kedro.preferences.formats.recognise import AUTO, check_format, check_meanings
from ser_kedro.preferences.formats.table import FORMATS, last_turn_only
from ser_kedro.preferences.formats.votes import Reading
from ser_kedro.preferences.records import first_line
from ser_kedro.preferences.schema import LonePrompt, Pair
from ser_kedro.store.fingerprints import hash_file
from ser_kedro.store.layout import project_root

WORLD = "demo_world"
KNOWN_FORMATS = (AUTO, *FORMATS, WORLD)

Part = Literal["train", "test", "pool"]

__all__ = ["KNOWN_FORMATS", "WORLD", "Dropped", "Part", "PreferenceSource"]


class PreferenceSource(BaseModel):
    """Preference pairs of one format, in one place, and perhaps a pool without labels.

    Attributes:
        format: A name in ``KNOWN_FORMATS``.
        path: File, folder, URL or ``hub://`` place of the pairs; a relative path may
            also start at the project's root. Not for ``demo_world``.
        test_path: The same, of pairs kept for testing; ``None`` if there are none.
        columns: Names of columns by what they mean (``formats.MEANINGS``).
        preference: What the values of a column ``preference`` mean (``votes.Reading``);
            guessed if ``None``.
        pool_path: A place as ``path``, of answers without labels or of prompts alone.
            Where it is given, all pairs of ``path`` keep their labels.
        pool_format: A name in ``FORMATS``, or ``auto``.
        pool_columns: As ``columns``, of the pool.
        pool_labels: Labels that the pool has are not read (``ignore``), or kept for
            evaluation alone (``audit``).
        pool_pairs_per_prompt: Pairs at most that are formed of the answers in one row
            of the pool.
        single_turn: Keep only the last user turn of every prompt.
        world: What ``demo_world`` is like; its own defaults if ``None``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: str = AUTO
    path: str | None = None
    test_path: str | None = None
    columns: dict[str, str] = {}
    preference: Reading | None = None
    pool_path: str | None = None
    pool_format: str = AUTO
    pool_columns: dict[str, str] = {}
    pool_labels: Literal["ignore", "audit"] = "ignore"
    pool_pairs_per_prompt: int = Field(default=1, ge=1)
    single_turn: bool = False
    world: WorldParams | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        """Refuse what cannot be read before anything is."""
        check_format(self.format, "format", KNOWN_FORMATS)
        check_format(self.pool_format, "pool_format", (AUTO, *FORMATS))
        check_meanings(self.columns, "data.columns")
        check_meanings(self.pool_columns, "data.pool_columns")
        if self.format == WORLD:
            given = self.path or self.test_path or self.pool_path
            if given is not None:
                raise DataError(
                    f"path={given}: format={WORLD} reads no file; give the format of"
                    f" yours ({', '.join((AUTO, *FORMATS))})"
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
    def has_pool(self) -> bool:
        """Whether the pool comes separately, and no label has to be hidden."""
        return self.pool_path is not None

    @property
    def parts(self) -> tuple[Part, ...]:
        """Parts that come separately."""
        has = {"train": True, "test": self.has_test, "pool": self.has_pool}
        return tuple(part for part in ("train", "test", "pool") if has[part])

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
            content = {part: self.content(part) for part in self.parts}
        places = {"path", "test_path", "pool_path", "world"}
        how = self.model_dump(mode="json", exclude=places)
        text = json.dumps([how, content], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def read(self, part: Part) -> PairReader:
        """Begin to read a part that lies in files.

        Raises:
            DataError: If the place cannot be read, or holds no known format.
        """
        place = self.place(part)
        pool = part == "pool"
        how = How(
            format=self.pool_format if pool else self.format,
            columns=self.pool_columns if pool else self.columns,
            preference=self.preference,
            pool=pool,
            labels=self.pool_labels,
            limit=self.pool_pairs_per_prompt,
        )
        return PairReader(read_records(place, part), how, self.name(part))

    def items(self, part: Part, reader: PairReader | None) -> Iterator[Item]:
        """Stream the pairs of a part, and what is dropped between them.

        Args:
            part: One of ``parts``.
            reader: From ``read``; ``None`` for the demo world.
        """
        if reader is None:
            half: Literal["train", "test"] = "test" if part == "test" else "train"
            return iter(draw_pairs(self.world or WorldParams(), half))
        return map(_last_turn, reader) if self.single_turn else iter(reader)

    def pairs(self, part: Part) -> Iterator[Item]:
        """Stream the pairs of a part, and what is dropped between them.

        Args:
            part: One of ``parts``.

        Raises:
            DataError: If the place cannot be read, or there is no such part.
        """
        return self.items(part, None if self.format == WORLD else self.read(part))

    def unread(self, part: Part) -> list[tuple[str, str]]:
        """Return the files of a part's folder that are not read, and why."""
        if self.format == WORLD:
            return []
        return unread_files(self.place(part), part)

    def exists(self) -> bool:
        """Whether the pairs are there, as far as can be said without the hub."""
        return self.format == WORLD or place_exists(self.place("train"))

    def name(self, part: Part) -> str:
        """Return what messages call a part."""
        if self.format == WORLD:
            return f"{WORLD} ({part})"
        return without_secrets(f"{self._path(part)} ({part})")

    def content(self, part: Part) -> list[str]:
        """Return what stands for the content of a part: hashes, or a revision.

        Raises:
            DataError: If the place is not there.
        """
        place = self.place(part)
        if place.startswith(HUB):
            return [place, str(commit_of(place))]
        return sorted(
            _fingerprint(file, place) for file in find_files(place, part).files
        )

    def place(self, part: Part) -> str:
        """Return where a part lies; ``demo_world`` lies nowhere.

        Raises:
            DataError: If there is no such place.
        """
        path = self._path(part)
        if path is None:
            raise DataError(f"format={self.format}: no path given for the {part} split")
        return _resolve(path)

    def _path(self, part: Part) -> str | None:
        paths = {"train": self.path, "test": self.test_path, "pool": self.pool_path}
        return paths[part]


def _last_turn(item: Item) -> Item:
    if isinstance(item, Pair):
        return last_turn_only(item)
    return last_turn_only(item) if isinstance(item, LonePrompt) else item


def _resolve(path: str) -> str:
    if "://" in path:
        return path
    local = Path(path).expanduser()
    bare = Path(str(local).partition("?")[0])  # FOLDER?split=test
    if not local.is_absolute() and not bare.exists():
        local = project_root() / local
    return str(local.absolute())


def _fingerprint(file: FoundFile, place: str) -> str:
    if "://" in place and urlsplit(place).scheme not in ("file", "local"):
        try:
            return f"{file.kind} {file.fs.checksum(file.path)}"
        except Exception as error:  # every file system has its own errors
            raise DataError(f"{place}: cannot be read ({first_line(error)})") from error
    return f"{file.kind} {hash_file(Path(file.path))}"
