"""Parameters of models: which one, adapters, and how a reward model is applied."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializationInfo, model_serializer
from pydantic import SerializerFunctionWrapHandler as Handler

from ser_kedro.store.fingerprints import hash_folder, hub_revision

Precision = Literal["auto", "fp32", "bf16"]


class Params(BaseModel):
    """Base of parameters: they do not change, and unknown ones are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ScratchParams(Params):
    """A small Llama-architecture network with random weights, and its tokenizer."""

    vocab_size: int = Field(ge=64, description="tokens that the BPE may learn")
    hidden_size: int = Field(ge=8)
    intermediate_size: int = Field(ge=8)
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)


class ModelParams(Params):
    """Which model to start from.

    Attributes:
        name: A preset, a hub id or a folder; what reports call the base model.
        revision: Branch, tag or commit of a hub model.
        scratch: Make the model instead of loading it.
    """

    name: str = Field(min_length=1)
    revision: str | None = None
    scratch: ScratchParams | None = None

    @model_serializer(mode="wrap")
    def _serialize(self, handler: Handler, info: SerializationInfo) -> Any:
        values = handler(self)
        folder = Path(self.name)
        if not (info.context and info.context.get("identity")) or self.scratch:
            return values
        # A folder counts by what is in it, a hub model by its commit.
        if folder.is_dir():
            return {"folder": hash_folder(folder)}
        return {**values, "revision": hub_revision(self.name, self.revision)}


class LoraParams(Params):
    """Low-rank adapters (Hu et al., 2021); merged into the weights after training."""

    r: int = Field(ge=1)
    alpha: float = Field(gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: list[str] | Literal["all-linear"] = "all-linear"


class Scoring(Params):
    """How a reward model is applied to texts.

    Attributes:
        max_length: Tokens of a row, as the model was trained with.
        score_tokens: Padded tokens of one forward pass.
        packing: Let responses share their prompt's row, where that is exact.
        precision: As in ``TrainingParams``.
    """

    max_length: int = Field(ge=8)
    score_tokens: int = Field(ge=8)
    packing: bool = True
    precision: Precision = "auto"
