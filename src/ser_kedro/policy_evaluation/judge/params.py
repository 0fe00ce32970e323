"""Parameters of the judge. Its key is none of them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator


class JudgeParams(BaseModel):
    """Which model judges, and how it is asked.

    Attributes:
        base_url: An OpenAI-compatible endpoint, with its ``/v1``.
        model: The model's name there.
        mode: ``absolute`` scores each answer on its own, as the paper does;
            ``pairwise`` shows both answers, in both orders; ``both`` does both.
        key_variable: Environment variable with the key, where Kedro's credentials
            have none; ``null`` for a server that asks for no key.
        temperature: Of the sampling; ``null`` leaves it to a server that refuses it.
        max_tokens: Of an answer.
        length_field: How the endpoint calls that; newer models of OpenAI want
            ``max_completion_tokens``.
        concurrency: Calls under way at once.
        timeout: Seconds for a call.
        retries: Of a call that met 408, 409, 429, 5xx, a time-out or a lost
            connection, with growing pauses or those that the server names.
        input_price: Of a million prompt tokens, in any currency; ``null``: unknown.
        output_price: Of a million answer tokens.
        cache: File of the answers, below the project unless absolute.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    base_url: str = "https://api.openai.com/v1"
    model: str = Field(min_length=1)
    mode: Literal["absolute", "pairwise", "both"] = "absolute"
    key_variable: str | None = "OPENAI_API_KEY"
    temperature: float | None = Field(0.0, ge=0, le=2)
    max_tokens: int = Field(512, ge=1)
    length_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    concurrency: int = Field(8, ge=1, le=256)
    timeout: float = Field(60.0, gt=0)
    retries: int = Field(5, ge=0, le=20)
    input_price: float | None = Field(None, ge=0)
    output_price: float | None = Field(None, ge=0)
    cache: Path = Path("data") / "judge" / "answers.jsonl"

    @field_validator("base_url")
    @classmethod
    def _no_secret(cls, url: str) -> str:
        # What stands in a parameter ends in logs and in the records of jobs; this
        # message does not repeat it (hide_input_in_errors).
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be an address such as https://api.openai.com/v1")
        if parts.username or parts.password or parts.query:
            raise ValueError("must hold no key; give it as credential")
        return url

    @property
    def sampling(self) -> dict[str, float | int]:
        """What goes into a call beside model and messages."""
        values: dict[str, float | int] = {self.length_field: self.max_tokens}
        if self.temperature is not None:
            values["temperature"] = self.temperature
        return values
