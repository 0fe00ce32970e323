"""Parameters of models: which one, adapters, and how a reward model is applied."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializationInfo, model_serializer
from pydantic import SerializerFunctionWrapHandler as Handler

from ser_kedro.errors import ModelError
from ser_kedro.models.gguf_place import gguf_file, names_gguf
from ser_kedro.store.fingerprints import hash_file, hash_folder, hub_revision
from ser_kedro.store.json_io import read_json

Kind = Literal["language_model", "encoder", "reward_model"]
Precision = Literal["auto", "fp32", "bf16"]
SftWhen = Literal["auto", "always", "never"]

ADAPTER = "adapter_config.json"


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
        name: A preset, a hub id, a folder or a GGUF file (a path, or
            ``package://NAME/FILE`` for a file of an installed package); what reports
            call the base model. A folder with an adapter stands for its base model
            with the adapter merged in.
        revision: Branch, tag or commit of a hub model.
        scratch: Make the model instead of loading it.
        chat_template: A file with a Jinja template in place of the tokenizer's own.
        template_date: What a chat template that asks for the date is told.
    """

    name: str = Field(min_length=1)
    revision: str | None = None
    scratch: ScratchParams | None = None
    chat_template: str | None = None
    template_date: date = date(2024, 7, 26)

    @property
    def adapter(self) -> Path | None:
        """The folder of an adapter, if that is what was given."""
        folder = Path(self.name)
        return folder if (folder / ADAPTER).is_file() else None

    @property
    def whole(self) -> ModelParams:
        """The model that has all weights: an adapter's base, else this one.

        Raises:
            ModelError: If an adapter does not say what its base is.
        """
        if self.scratch is not None or self.adapter is None:
            return self
        try:
            settings = read_json(self.adapter / ADAPTER)
            base = settings.get("base_model_name_or_path")
        except (ValueError, AttributeError):
            base = None
        if not base or not isinstance(base, str):
            raise ModelError(
                f"model={self.name}: an adapter that does not name its base model; add"
                f" base_model_name_or_path to its {ADAPTER}"
            )
        # As PEFT wrote it down; or moved together with the adapter.
        beside = self.adapter / base
        name = str(beside) if not Path(base).is_dir() and beside.is_dir() else base
        changes = {"name": name, "revision": settings.get("revision")}
        return self.model_copy(update=changes)

    def read_template(self) -> str | None:
        """Return the content of ``chat_template``, if it is given.

        Raises:
            ModelError: If the file cannot be read.
        """
        if self.chat_template is None:
            return None
        try:
            return Path(self.chat_template).expanduser().read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ModelError(
                f"model.chat_template={self.chat_template}: cannot be read"
                f" ({type(error).__name__}); give a text file with a Jinja template"
            ) from error

    @model_serializer(mode="wrap")
    def _serialize(self, handler: Handler, info: SerializationInfo) -> Any:
        values = handler(self)
        if not (info.context and info.context.get("identity")):
            return values
        # A file and a folder count by what is in them, a hub model by its commit.
        values["chat_template"] = self.read_template()
        if self.scratch:
            return values
        if (folder := Path(self.name)).is_dir():
            del values["name"]
            values["folder"] = hash_folder(folder)
        elif names_gguf(self.name):
            del values["name"]
            values["gguf"] = hash_file(gguf_file(self.name))
        else:
            values["revision"] = hub_revision(self.name, self.revision)
        if self.adapter is not None:
            values["base"] = self.whole.model_dump(
                mode="json", context={"identity": True}
            )
        return values


class LoraParams(Params):
    """Low-rank adapters (Hu et al., 2021); merged into the weights after training.

    Attributes:
        r: Rank of an adapter.
        alpha: An adapter counts ``alpha / r`` times.
        dropout: Of what an adapter reads, in training.
        target_modules: Names of the linear layers that have an adapter, or all.
        last_layers: Adapters on so many layers from the end; those below are run
            forward only. ``None``: on all layers.
    """

    r: int = Field(ge=1)
    alpha: float = Field(gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: list[str] | Literal["all-linear"] = "all-linear"
    last_layers: int | None = Field(default=None, ge=1)


class View(Params):
    """What is read of a frozen model for a response.

    Attributes:
        depth: Of the layer, as a share of all: 1 is the last one.
        pool: The ``mean`` over the response's tokens, or its ``last`` one.
    """

    depth: float = Field(gt=0, le=1)
    pool: Literal["mean", "last"] = "mean"


VIEWS = (
    View(depth=0.4),
    View(depth=0.6),
    View(depth=0.9),
    View(depth=1.0, pool="last"),
)


class Scoring(Params):
    """How a reward model is applied to texts.

    Attributes:
        max_length: Tokens of a row, as the model was trained with.
        score_tokens: Padded tokens of one forward pass; halved where the memory does
            not hold them.
        packing: Let responses share their prompt's row, where that is exact.
        precision: As in ``TrainingParams``.
        views: What is read of a frozen model beside what its head reads, in one pass:
            what a committee's members see, one view each.
    """

    max_length: int = Field(ge=8)
    score_tokens: int = Field(ge=8)
    packing: bool = True
    precision: Precision = "auto"
    views: tuple[View, ...] = VIEWS

    @property
    def whole(self) -> Scoring:
        """The same for models that are read as a whole, with no views."""
        return self.model_copy(update={"views": ()})
