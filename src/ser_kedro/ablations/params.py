"""Parameters of the comparisons."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ser_kedro.ablations.methods import METHODS
from ser_kedro.errors import ParameterError


class _Params(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Variant(_Params):
    """A method under other parameters; those that are not named stay as they are.

    Attributes:
        method: One of ``methods.METHODS``.
        sft: Changes of ``SftParams``.
        reward: Changes of ``RewardParams``.
        self_evolve: Changes of ``EvolutionParams``.
    """

    method: str
    sft: dict[str, Any] = {}
    reward: dict[str, Any] = {}
    self_evolve: dict[str, Any] = {}


class PolicyComparisonParams(_Params):
    """Which policies are compared.

    Attributes:
        seeds: Random seeds of the comparison of reward models.
        long_seed: Seed of the run that is trained for too long.
        long_run: Changes of ``PpoParams`` for that run.
        command: What the page names as its source.
    """

    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(min_length=1)
    long_seed: int = Field(ge=0)
    long_run: dict[str, Any]
    command: str


class AblationParams(_Params):
    """Which methods are compared, on how many seeds.

    Attributes:
        data: What tables and figures call the data.
        phase: ``development``, where options are chosen, or ``confirmation``, on seeds
            and prompts that development has never seen.
        seeds: Random seeds; each has a split, a world (where there is one) and
            weights of its own.
        methods: Names of methods or of variants.
        variants: Methods under other parameters, by a name of their own.
        shares: Of the label-efficiency curve: shares of the reward model's pairs that
            keep their label; 1 is all of them, on which nothing is left to evolve.
        processes: Seeds that run at once.
    """

    data: str = Field(min_length=1)
    phase: Literal["development", "confirmation"]
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(min_length=1)
    methods: tuple[str, ...]
    variants: dict[str, Variant] = {}
    shares: tuple[float, ...]
    processes: int = Field(ge=1)

    def variant(self, name: str) -> Variant:
        """Return a method by its name, as a variant that may change nothing."""
        return self.variants.get(name) or Variant(method=name)

    @model_validator(mode="after")
    def _check_names(self) -> AblationParams:
        known = (*METHODS, *self.variants)
        for name in (*self.methods, *(each.method for each in self.variants.values())):
            if name not in known:
                raise ParameterError(
                    f"ablations: there is no method {name} (known: {', '.join(known)})"
                )
        return self
