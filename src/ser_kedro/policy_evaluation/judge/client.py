"""Ask the judge, through the ``openai`` package, without telling anybody the key."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from operator import itemgetter
from typing import Any

from openai import (
    APIConnectionError,
    APIResponseValidationError,
    APITimeoutError,
    AuthenticationError,
    NotFoundError,
    OpenAI,
    OpenAIError,
    PermissionDeniedError,
    RateLimitError,
)
from pydantic import SecretStr

from ser_kedro.errors import MASK, JudgeError
from ser_kedro.policy_evaluation.judge.cache import Answer
from ser_kedro.policy_evaluation.judge.params import JudgeParams
from ser_kedro.policy_evaluation.judge.prompts import Message

# At their more talkative levels these log requests.
_TALKATIVE = ("openai", "httpx", "httpx2", "httpcore", "httpcore2")
_REASON_LENGTH = 200
# Characters of a key that must not be told; servers quote its first half. A shorter
# word than the second is none.
_PART, _SECRET = 6, 12


class JudgeClient:
    """A connection to the judge; may be used from several threads."""

    def __init__(self, params: JudgeParams, key: SecretStr) -> None:
        """Prepare to ask; nothing is sent yet.

        Args:
            params: Where and how.
            key: For the endpoint.
        """
        self._params = params
        self._key = key
        self._client: Any = OpenAI(
            api_key=key.get_secret_value(),
            base_url=params.base_url,
            timeout=params.timeout,
            max_retries=params.retries,
        )

    def ask(self, messages: Sequence[Message]) -> Answer | None:
        """Return the judge's answer; ``None`` if the server's reply holds none.

        Raises:
            JudgeError: If the server refuses, or does not answer after all retries.
        """
        try:
            reply = self._client.chat.completions.create(
                model=self._params.model,
                messages=list(messages),
                **self._params.sampling,
            )
        except (APIResponseValidationError, ValueError):
            return None  # a reply that is no JSON
        except OpenAIError as error:
            # Neither the error (its request holds the key) nor its traceback go on.
            line = self._line(error)
        else:
            return _answer(reply, self._key.get_secret_value())
        raise JudgeError(line)

    def _line(self, error: Any) -> str:
        params = self._params
        tries = f"after {params.retries + 1} tries"
        kept = "answers so far are kept, run again to go on"
        match error:
            case AuthenticationError() | PermissionDeniedError():
                # Servers like to quote the key in these.
                what = f"the key is refused ({error.status_code}); check credentials"
            case NotFoundError():
                what = "no such model or address (404); check judge.model and base_url"
            case RateLimitError():
                what = f"too many requests (429) {tries}; lower concurrency; {kept}"
            case APITimeoutError():
                what = f"no answer within {params.timeout:g} s {tries}; {kept}"
            case APIConnectionError():
                what = f"cannot be reached {tries}; check base_url; {kept}"
            case _:
                status = getattr(error, "status_code", type(error).__name__)
                what = f"refused ({status}: {self._reason(error)}); {kept}"
        return f"judge {params.model} at {params.base_url}: {what}"

    def _reason(self, error: Any) -> str:
        text = " ".join(str(getattr(error, "message", "")).split())
        return masked(text, self._key.get_secret_value(), _PART)[:_REASON_LENGTH]

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


@contextmanager
def connected(params: JudgeParams, key: SecretStr) -> Iterator[JudgeClient]:
    """Give a client whose libraries keep silent, and close it at the end."""
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    client = JudgeClient(params, key)
    try:
        yield client
    finally:
        client.close()
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def masked(text: str, secret: str, part: int) -> str:
    """Return a text without a secret, and without parts of it.

    Args:
        text: The text.
        secret: What must not be in it.
        part: Characters of the shortest part.
    """
    if len(secret) < _SECRET:
        return text  # no secret: what a server is sent that asks for none
    parts = {secret[at : at + part] for at in range(len(secret) - part + 1)}
    told = [False] * len(text)
    for at in range(len(text) - part + 1):
        if text[at : at + part] in parts:
            told[at : at + part] = [True] * part
    runs = groupby(zip(told, text, strict=True), key=itemgetter(0))
    return "".join(
        MASK if secret_run else "".join(sign for _, sign in run)
        for secret_run, run in runs
    )


def _answer(reply: Any, secret: str) -> Answer | None:
    # Servers differ: choices may be missing, empty or null, and so may the content.
    choices = getattr(reply, "choices", None)
    if not isinstance(choices, list) or not choices:
        return None
    text = _text(getattr(getattr(choices[0], "message", None), "content", None))
    if not text.strip():
        return None  # nothing to keep: it is asked for again
    usage = getattr(reply, "usage", None)
    return Answer(
        # A server may echo what it was sent; shorter parts may be words of its own.
        text=masked(text, secret, _SECRET),
        prompt_tokens=_count(usage, "prompt_tokens"),
        answer_tokens=_count(usage, "completion_tokens"),
    )


def _text(content: Any) -> str:
    """Return the text of an answer, which may come in parts."""
    if isinstance(content, list):
        return "".join(map(_text, content))
    if isinstance(content, dict):
        content = content.get("text")
    return content if isinstance(content, str) else ""


def _count(usage: Any, name: str) -> int:
    value = getattr(usage, name, 0)
    return value if isinstance(value, int) else 0
