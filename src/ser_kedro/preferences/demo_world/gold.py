"""The gold reward: known in the demo world, and nowhere else."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from ser_kedro.preferences.demo_world.world import WorldParams


class GoldReward(BaseModel):
    """Whether the true reward is known, and of which world it is.

    It says nothing of any label: what a policy or a diagnosis reads of it is how good
    a response is in the world that it is about.

    Attributes:
        world: The demo world; ``None`` for real data.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    world: WorldParams | None = None
