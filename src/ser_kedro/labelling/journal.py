"""What people answered, on disk line by line: nothing is ever changed or taken out."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from io import FileIO
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ser_kedro.errors import DataError

Choice = Literal["first", "second", "tie", "skip"]
# A pair, and whether it was asked for the second time.
Key = tuple[str, bool]

# Not a kind of data file: a folder that is read as data may hold it.
SUFFIX = ".log"


class Answer(BaseModel):
    """One answer, with all that is needed to make a label of it.

    Attributes:
        number: Of the line in the journal, from 0.
        pair_id: The pair.
        repeat: Whether the pair was asked for the second time.
        swapped: Whether ``response_b`` was shown first.
        choice: Of the responses as they were shown.
        seconds: That the pair was shown.
        time: When it was given, in seconds since 1970.
        annotator: Who gave it.
        random: Whether the pair was drawn at random.
        prompt: Its turns.
        response_a: One response.
        response_b: The other.
        source: Where the pair is from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["answer"] = "answer"
    number: int
    pair_id: str
    repeat: bool
    swapped: bool
    choice: Choice
    seconds: float
    time: float
    annotator: str
    random: bool
    prompt: tuple[dict[str, str], ...]
    response_a: str
    response_b: str
    source: str

    @property
    def key(self) -> Key:
        """What was asked."""
        return self.pair_id, self.repeat

    @property
    def preferred(self) -> Literal["a", "b", "tie", "skip"]:
        """The preferred response by its name, wherever it was shown."""
        if self.choice in ("tie", "skip"):
            return self.choice
        return "b" if (self.choice == "first") == self.swapped else "a"

    @property
    def label(self) -> dict[str, Any] | None:
        """A record that the readers of preference data know; ``None`` if skipped.

        A tie has the probability one half. What has no meaning to them is a number, so
        that they name no text that they did not read.
        """
        if self.choice == "skip":
            return None
        chosen, rejected = self.response_a, self.response_b
        if self.preferred == "b" or (self.preferred == "tie" and self.swapped):
            chosen, rejected = rejected, chosen
        return {
            "prompt": list(self.prompt),
            "chosen": chosen,
            "rejected": rejected,
            "probability": 0.5 if self.choice == "tie" else 1.0,
            "source": self.source,
            "annotator": self.annotator,
            "time": self.time,
            "seconds": self.seconds,
            "chosen_shown_first": self.choice != "second",
            "repeat": self.repeat,
            "random": self.random,
        }


class Undo(BaseModel):
    """Takes an answer back.

    Attributes:
        number: As of an answer.
        undoes: The number of the answer.
        time: As of an answer.
        annotator: As of an answer.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["undo"] = "undo"
    number: int
    undoes: int
    time: float
    annotator: str


Entry = Annotated[Answer | Undo, Field(discriminator="kind")]
_ENTRY: TypeAdapter[Answer | Undo] = TypeAdapter(Entry)


class Journal:
    """The answers given so far, and the file of labels that follows from them.

    Every entry is a line of the journal, ``<labels>.log``, which only grows. The labels
    are written from it: one more line for an answer, all of them anew where one was
    taken back. Both are on disk before ``add`` returns.

    Attributes:
        standing: The answers that were not taken back, by what was asked.
        count: Number of entries.
    """

    def __init__(self, labels: Path, file: FileIO, entries: list[Entry]) -> None:
        """Take what ``open`` found."""
        self._path = labels
        self._file = file
        self.standing: dict[Key, Answer] = {}
        self.count = 0
        for entry in entries:
            self._take(entry)
        self._write_labels()

    @classmethod
    def open(cls, labels: Path) -> Self:
        """Go on with a file of labels, or begin one.

        Args:
            labels: A file of JSON lines; its journal lies beside it.

        Raises:
            DataError: If the file is not ours, broken, in use or cannot be written.
        """
        path = labels.with_name(labels.name + SUFFIX)
        if not path.exists() and labels.exists() and labels.stat().st_size:
            raise DataError(
                f"{labels}: has no {path.name} beside it, so ser-kedro label did not"
                " write it; give another --file"
            )
        try:
            file = path.open("a+b", buffering=0)
        except OSError as error:
            raise DataError(f"{path}: cannot be written ({error.strerror})") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise DataError(
                f"{labels}: another ser-kedro label is at work on it; open a second"
                " window of that one, or give another --file"
            ) from error
        return cls(labels, file, _entries(file, path))

    def add(self, entry: Answer | Undo) -> None:
        """Put an entry on disk, and the labels that follow."""
        _append(self._file, entry.model_dump_json())
        self._take(entry)
        if isinstance(entry, Undo):
            self._write_labels()
        elif entry.label is not None:
            with self._path.open("ab", buffering=0) as file:
                _append(file, _json(entry.label))

    def close(self) -> None:
        """Let another process go on with it."""
        self._file.close()

    def _take(self, entry: Answer | Undo) -> None:
        self.count += 1
        if isinstance(entry, Answer):
            self.standing[entry.key] = entry
            return
        kept = self.standing.items()
        self.standing = {k: each for k, each in kept if each.number != entry.undoes}

    def _write_labels(self) -> None:
        partial = self._path.with_name(self._path.name + ".partial")
        labels = (answer.label for answer in self.standing.values())
        text = "".join(_json(label) + "\n" for label in labels if label is not None)
        with partial.open("wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, self._path)


def _entries(file: FileIO, path: Path) -> list[Entry]:
    file.seek(0)
    lines = file.read().split(b"\n")
    # A line that was cut off by a crash was never confirmed.
    file.truncate(file.tell() - len(lines.pop()))
    found = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(_ENTRY.validate_json(line))
        except ValidationError as error:
            raise DataError(
                f"{path}:{number}: no entry of a labelling journal; mend or remove the"
                " line"
            ) from error
    return found


def _append(file: FileIO, line: str) -> None:
    """Write a whole line to disk, or nothing of it (a full disk)."""
    end = file.seek(0, os.SEEK_END)
    data = line.encode() + b"\n"
    try:
        if file.write(data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(file.fileno())
    except OSError:
        file.truncate(end)
        raise


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
