"""Answers on disk, one a line, so that none is paid for twice."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Answer:
    """What the judge said.

    Attributes:
        text: Its words.
        prompt_tokens: What the server counted; 0 where it does not say.
        answer_tokens: The same of the answer.
    """

    text: str
    prompt_tokens: int = 0
    answer_tokens: int = 0


def key_of(
    model: str, messages: Sequence[Mapping[str, str]], sampling: Mapping[str, Any]
) -> str:
    """Return the hash of all that an answer depends on."""
    call = {"model": model, "messages": list(messages), "sampling": dict(sampling)}
    text = json.dumps(call, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class AnswerCache:
    """Answers by their key, in a JSON Lines file that only grows.

    Each answer is written as it comes. A line cut off by a crash is left out when the
    file is read, and the next answer starts on a line of its own.
    """

    def __init__(self, path: Path) -> None:
        """Read what is there.

        Args:
            path: The file, there or not.
        """
        self._path = path
        self._lock = threading.Lock()
        self._answers: dict[str, Answer] = {}
        lines = path.read_bytes().split(b"\n") if path.is_file() else []
        # Without a newline at its end, the last line was cut off.
        self._cut = bool(lines and lines[-1])
        for line in lines:
            self._read(line)

    def _read(self, line: bytes) -> None:
        try:
            record = json.loads(line)
            key, answer = record.pop("key"), Answer(**record)
            if answer.text.strip():  # an empty one is asked for again
                self._answers[key] = answer
        except (ValueError, TypeError, KeyError, AttributeError):
            return  # cut off, or not ours: the answer is asked for again

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, key: str) -> Answer | None:
        """Return a known answer."""
        return self._answers.get(key)

    def put(self, key: str, answer: Answer) -> None:
        """Keep an answer, from any thread."""
        line = json.dumps({"key": key, **vars(answer)})  # half surrogates too
        with self._lock:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            start = "\n" if self._cut else ""
            with self._path.open("ab") as file:
                file.write(f"{start}{line}\n".encode())
            self._cut = False
            self._answers[key] = answer
