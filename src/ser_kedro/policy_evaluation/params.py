"""Parameters of the evaluation of a policy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from ser_kedro.policy_evaluation.judge.params import JudgeParams


class PolicyEvaluationParams(BaseModel):
    """How a policy is compared with the model that it started from.

    Attributes:
        prompts: Prompts of the test pairs, at most.
        batch_size: Answers that are written at once.
        judge: Who compares the answers; nobody where its ``model`` is not given.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    prompts: int = Field(256, ge=2)
    batch_size: int = Field(64, ge=1)
    judge: JudgeParams | None = None

    @field_validator("judge", mode="before")
    @classmethod
    def _off_without_a_model(cls, value: Any) -> Any:
        named = not isinstance(value, Mapping) or value.get("model")
        return value if named else None
