"""Answers of the judge, read strictly: what does not fit is counted, not guessed."""

from __future__ import annotations

import re
from typing import Literal

Choice = Literal["A", "B", "tie"]

_SCORE = re.compile(r"\**score:?\**:?\s*\**([0-5])(?:\s*/\s*5)?\**\.?", re.IGNORECASE)
_VERDICT = re.compile(r"\**verdict:?\**:?\s*\**(A|B|tie)\**\.?", re.IGNORECASE)
_CHOICES: dict[str, Choice] = {"a": "A", "b": "B", "tie": "tie"}


def parse_score(text: str) -> int | None:
    """Return the whole number from 0 to 5 that the last line states, else ``None``."""
    found = _last_line(_SCORE, text)
    return int(found) if found is not None else None


def parse_verdict(text: str) -> Choice | None:
    """Return the choice that the last line states, else ``None``."""
    found = _last_line(_VERDICT, text)
    return _CHOICES[found.lower()] if found is not None else None


def _last_line(pattern: re.Pattern[str], text: str) -> str | None:
    lines = text.strip().splitlines()
    found = pattern.fullmatch(lines[-1].strip()) if lines else None
    if found is None:
        return None
    # A second, different statement means that the judge contradicts itself.
    others = (pattern.fullmatch(line.strip()) for line in lines[:-1])
    same = all(other is None or other[1] == found[1] for other in others)
    return found[1] if same else None
