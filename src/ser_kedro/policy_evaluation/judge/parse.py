"""Answers of the judge, read strictly: what does not fit is counted, not guessed."""

from __future__ import annotations

import re
from typing import Literal

Choice = Literal["A", "B", "tie"]

# Signs that emphasise or quote, of Markdown and others.
_SIGNS = r"[#*_`\[\](){}\s]*"
_SCORE = re.compile(
    rf"{_SIGNS}score{_SIGNS}[:：=]?{_SIGNS}([0-5])(?:\.0)?"
    rf"(?:{_SIGNS}(?:/|out of)\s*5(?:\.0)?)?{_SIGNS}\.?{_SIGNS}",
    re.IGNORECASE,
)
_VERDICT = re.compile(
    rf"{_SIGNS}verdict{_SIGNS}[:：=]?{_SIGNS}(A|B|tie){_SIGNS}\.?{_SIGNS}",
    re.IGNORECASE,
)
# A bare one in double brackets, as judges of Arena are asked for.
_BRACKETS = re.compile(r"\[\[(A|B|C)\]\]\.?", re.IGNORECASE)
# Some servers leave out the opening tag; a thought that does not end is no answer.
_THOUGHT = re.compile(r"^.*</think>|^\s*<think>.*", re.IGNORECASE | re.DOTALL)
_CHOICES: dict[str, Choice] = {"a": "A", "b": "B", "c": "tie", "tie": "tie"}
# Of a line that states something and no more.
_LONGEST = 80


def parse_score(text: str) -> int | None:
    """Return the whole number from 0 to 5 that the last line states, else ``None``."""
    found = _last_line((_SCORE,), text)
    return int(found) if found is not None else None


def parse_verdict(text: str) -> Choice | None:
    """Return the choice that the last line states, else ``None``."""
    found = _last_line((_VERDICT, _BRACKETS), text)
    return _CHOICES[found] if found is not None else None


def _last_line(patterns: tuple[re.Pattern[str], ...], text: str) -> str | None:
    # What a judge thinks before it answers is no answer.
    lines = _THOUGHT.sub("", text).strip().splitlines()
    stated = [_stated(patterns, line) for line in lines]
    if not stated or (last := stated[-1]) is None:
        return None
    # A second, different statement means that the judge contradicts itself.
    return last if {each for each in stated if each is not None} == {last} else None


def _stated(patterns: tuple[re.Pattern[str], ...], line: str) -> str | None:
    # A longer line states more than that, and a long row of signs takes long.
    if len(line := line.strip()) > _LONGEST:
        return None
    found = (pattern.fullmatch(line) for pattern in patterns)
    return next((match[1].lower() for match in found if match), None)
