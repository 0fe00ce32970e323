"""Parameters of a committee of views."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ser_kedro.errors import ParameterError
from ser_kedro.models.params import Params

FEWEST_VIEWS = 2


def check_views(count: int) -> None:
    """Refuse a committee of fewer than two members.

    Args:
        count: Views, of which each member reads one.

    Raises:
        ParameterError: If there are too few.
    """
    if count < FEWEST_VIEWS:
        raise ParameterError(
            f"reward.views: a committee needs {FEWEST_VIEWS} views or more, not {count}"
        )


class CommitteeParams(Params):
    """How a committee of views is fitted, and whether it learns from the pool.

    Attributes:
        folds: Parts of the human labels, by prompt group; each is judged by members
            that have not seen it.
        co_training: Let members label the pool for each other (Blum and Mitchell,
            1998): ``always``, ``never``, or where it helps out of fold (``auto``).
        rounds: Of co-training.
        share: Of the pool that a member labels for its partner: the surest pairs.
        pool_limit: Pairs of the pool that co-training reads, at most.
        standard_errors: ``auto`` takes co-training where the log-loss out of fold is
            lower by more than so many standard errors of the paired difference.
    """

    folds: int = Field(default=5, ge=2)
    co_training: Literal["auto", "always", "never"] = "auto"
    rounds: int = Field(default=3, ge=1)
    share: float = Field(default=0.5, gt=0, le=1)
    pool_limit: int = Field(default=4096, ge=1)
    standard_errors: float = Field(default=1.0, ge=0)
