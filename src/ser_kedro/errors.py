"""The errors of ser-kedro. A message is one line: what, where, what to do.

What comes from data is made ``printable`` before it is shown. Secrets in addresses are
masked in every message.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

# ``scheme://user:SECRET@host`` and ``?token=SECRET``, as presigned addresses have too.
_PASSWORD = re.compile(r"(://[^/\s:@]*):[^/\s@]+@")
_QUERY = re.compile(
    r"([?&][\w-]*(?:token|key|secret|password|credential|signature|sig)=)[^&\s\"']+",
    re.IGNORECASE,
)
MASK = "***"


def without_secrets(text: str) -> str:
    """Return a text in which passwords and keys of addresses are masked."""
    return _QUERY.sub(rf"\1{MASK}", _PASSWORD.sub(rf"\1:{MASK}@", text))


def printable(text: str) -> str:
    """Return a text with U+FFFD in the place of control characters."""
    return "".join(
        sign if sign.isprintable() or sign == "\n" else "\N{REPLACEMENT CHARACTER}"
        for sign in text
    )


class SerKedroError(Exception):
    """Base of every error that a user can cause or fix; exit code 2."""

    def __init__(self, message: str = "") -> None:
        """Take the line; what is secret in its addresses is not kept."""
        super().__init__(without_secrets(message))


class ParameterError(SerKedroError):
    """A parameter is unknown, of the wrong type or out of range."""


class DataError(SerKedroError):
    """Preference data cannot be read, or too little of it is usable."""


class ModelError(SerKedroError):
    """A model cannot be loaded, or cannot serve as asked."""


class StoreError(SerKedroError):
    """A reference points to nothing, or the store cannot be written."""


class DamageError(StoreError):
    """A file of a finished job is no longer what was written."""


class LaunchError(SerKedroError):
    """A job that ran in processes of its own did not finish.

    Attributes:
        command: The launcher's argument list.
        exit_code: Of the launcher; ``None`` if it was ended by us.
        rank: The rank that failed first, as far as it is known.
        lines: The last lines that this rank, or the launcher, wrote.
    """

    def __init__(
        self,
        message: str,
        *,
        command: Sequence[str] = (),
        exit_code: int | None = None,
        rank: int | None = None,
        lines: Sequence[str] = (),
    ) -> None:
        """Take the one line and what is known beside it."""
        super().__init__(message)
        self.command = tuple(command)
        self.exit_code = exit_code
        self.rank = rank
        self.lines = tuple(lines)


class JudgeError(SerKedroError):
    """The judge cannot be asked: no key, no answer, or a model that is not there."""


class PolicyError(SerKedroError):
    """The training of a policy diverged (NaN or infinity)."""
