"""Parameters of the comparison of arms."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ser_kedro.ablations.arms import ARMS
from ser_kedro.errors import ParameterError


class _Params(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Variant(_Params):
    """An arm under other parameters; those that are not named stay as the run's.

    Attributes:
        arm: The arm, one of ``arms.ARMS``.
        sft: Changes of ``SftParams``.
        reward: Changes of ``RewardParams``.
        self_evolve: Changes of ``EvolutionParams``.
    """

    arm: str
    sft: dict[str, Any] = {}
    reward: dict[str, Any] = {}
    self_evolve: dict[str, Any] = {}


class EvidenceParams(_Params):
    """Which arms are compared, on how many draws.

    Attributes:
        data: What tables and figures call the data.
        first_seed: Seed of the first draw; each draw has a split, a world (where there
            is one) and weights of its own.
        draws: How many draws.
        arms: Names of arms or of variants.
        variants: Arms under other parameters, by a name of their own.
        shares: Of the label-efficiency curve: shares of the reward model's pairs that
            keep their label; 1 is all of them, on which nothing is left to evolve.
        processes: Draws that run at once.
    """

    data: str = Field(min_length=1)
    first_seed: int = Field(0, ge=0)
    draws: int = Field(5, ge=1)
    arms: tuple[str, ...]
    variants: dict[str, Variant] = {}
    shares: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1, 0.15, 0.3, 0.6, 1.0)
    processes: int = Field(1, ge=1)

    @property
    def seeds(self) -> range:
        """Seeds of the draws."""
        return range(self.first_seed, self.first_seed + self.draws)

    def variant(self, name: str) -> Variant:
        """Return an arm by its name, as a variant that may change nothing."""
        return self.variants.get(name) or Variant(arm=name)

    @model_validator(mode="after")
    def _check_names(self) -> EvidenceParams:
        known = (*ARMS, *self.variants)
        for name in (*self.arms, *(each.arm for each in self.variants.values())):
            if name not in known:
                raise ParameterError(
                    f"evidence: there is no arm {name} (known: {', '.join(known)})"
                )
        return self
