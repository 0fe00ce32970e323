"""Load whatever gives rewards: a reward model, or a committee of views."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from ser_kedro.models.committee import VIEWS, load_views
from ser_kedro.models.features import HEAD, as_kept
from ser_kedro.models.head import load_head
from ser_kedro.models.pack import Row
from ser_kedro.models.params import Scoring
from ser_kedro.models.scorer import Scorer
from ser_kedro.models.views import ViewScorer


@dataclass
class CommitteeScorer(ViewScorer):
    """Gives the reward of a committee: the sum of its members' votes.

    Attributes:
        weights: Of the members, one after the other, shape ``(views * hidden,)``.
    """

    weights: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))

    def _forward(self, rows: list[Row], packed: bool) -> np.ndarray:
        seen = super()._forward(rows, packed)
        # In front of the views is what the backbone's own head gives.
        views = as_kept(pa.float16(), seen[:, -len(self.weights) :])
        rewards: np.ndarray = (views.astype(np.float32) @ self.weights)[:, None]
        return rewards


def load_scorer(folder: Path, scoring: Scoring) -> Scorer:
    """Load a model that gives rewards.

    Args:
        folder: Of a reward model or a committee.
        scoring: How it is applied.

    Example:
        >>> kept = catalog.load("reward_model")
        >>> scorer = load_scorer(kept.location, Scoring(max_length=512))
        >>> scorer.text_rewards([[{"role": "user", "content": "Hi"}]], ["Hello!"])
    """
    # What was fitted to features is read as these were.
    fitted = (folder / HEAD).is_file()
    scorer = Scorer.load(folder, scoring, finely=fitted)
    if not (folder / VIEWS).is_file():
        return scorer
    weights = load_head(folder).weight.detach().numpy()[0]
    return CommitteeScorer(**vars(scorer), views=load_views(folder), weights=weights)
