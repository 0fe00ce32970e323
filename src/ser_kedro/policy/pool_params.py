"""How a pool of prompts alone is answered."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class PoolParams(BaseModel):
    """How a language model answers the prompts of a pool, and what becomes of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str | None = Field(
        None, description="a folder or a hub id; null: the SFT model"
    )
    responses: int = Field(4, ge=2, description="answers to each prompt")
    pairs_per_prompt: int = Field(2, ge=1, description="formed of them, at most")
    batch_size: int = Field(8, ge=1, description="prompts that are answered at once")
    chunk_size: int = Field(
        256, ge=1, description="prompts after which all is on the disk"
    )
    max_prompt_length: int = Field(
        256, ge=1, description="tokens; longer prompts are cut on the left"
    )
    max_new_tokens: int = Field(256, ge=1, description="tokens of an answer")
    temperature: float = Field(1.0, gt=0, description="1: as the model has learnt")
    top_k: int = Field(0, ge=0, description="0: all tokens")
    top_p: float = Field(1.0, gt=0, le=1, description="1: all tokens")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="auto is the faster one"
    )
