"""Parameters of the choice of pairs to label."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class AcquisitionParams(BaseModel):
    """Which pairs of the pool people are asked to label.

    Attributes:
        by: ``margin`` prefers pairs whose responses the reward model finds about
            equally good; ``disagreement`` prefers those that its voters judge
            differently, by the mutual information of BALD; ``random`` prefers none.
        count: Pairs at most.
        random_share: Share of these that is drawn at random whatever ``by`` says, in
            [0, 1]. What is estimated on them alone is not biased by the choice.
        one_per_prompt: Take one pair at most of each prompt group: of prompts that are
            the same or near copies (``data_split.near_copy_threshold``).
        spread: ``none`` takes the best-scored pairs; ``k_center`` takes, among five
            times as many of these, pairs whose texts differ from each other's and from
            those of labelled ones. Random ones stay as drawn.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    by: Literal["margin", "disagreement", "random"] = "margin"
    count: int = Field(200, ge=1)
    random_share: float = Field(0.2, ge=0, le=1)
    one_per_prompt: bool = True
    spread: Literal["none", "k_center"] = "none"

    @property
    def share(self) -> float:
        """The share that is drawn at random in the end, in [0, 1]."""
        return 1.0 if self.by == "random" else self.random_share
