"""From the judge's answers to wins, ties and losses with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from ser_kedro.evaluation.params import EvaluationParams
from ser_kedro.policy_evaluation.judge.parse import Choice
from ser_kedro.statistics.estimate import Estimate, mean_by_group


class Verdict(StrEnum):
    """What a comparison came to, seen from our answer."""

    WIN = "win"
    TIE = "tie"
    LOSS = "loss"
    UNPARSED = "unparsed"


class Bias(StrEnum):
    """Which place won in both orders, whatever stood there."""

    FIRST = "first"
    SECOND = "second"


@dataclass(frozen=True)
class Tally:
    """Wins, ties and losses of our answers.

    Attributes:
        wins: Number of them; likewise ``ties`` and ``losses``.
        unparsed: Comparisons left out, since an answer could not be read.
        win: Share of wins among the comparisons that could be read; likewise ``tie``
            and ``loss``. ``None`` if none could.
        net: Share of wins minus share of losses.
        favoured_first: Pairs in which the first place won in both orders.
        favoured_second: Pairs in which the second place did.
    """

    wins: int
    ties: int
    losses: int
    unparsed: int
    win: Estimate | None
    tie: Estimate | None
    loss: Estimate | None
    net: Estimate | None
    favoured_first: int = 0
    favoured_second: int = 0


def by_scores(ours: int | None, other: int | None) -> Verdict:
    """Compare two scores given apart."""
    if ours is None or other is None:
        return Verdict.UNPARSED
    if ours == other:
        return Verdict.TIE
    return Verdict.WIN if ours > other else Verdict.LOSS


def by_choices(given: Choice | None, swapped: Choice | None) -> Verdict:
    """Join the verdicts of both orders; a pair judged differently is a tie.

    Args:
        given: The choice where our answer was A.
        swapped: The choice where it was B.
    """
    if given is None or swapped is None:
        return Verdict.UNPARSED
    if (given, swapped) == ("A", "B"):
        return Verdict.WIN
    if (given, swapped) == ("B", "A"):
        return Verdict.LOSS
    return Verdict.TIE


def bias_of(given: Choice | None, swapped: Choice | None) -> Bias | None:
    """Say whether one place won in both orders."""
    if given != swapped or given not in ("A", "B"):
        return None
    return Bias.FIRST if given == "A" else Bias.SECOND


def tally(
    verdicts: Sequence[Verdict],
    groups: Sequence[str],
    params: EvaluationParams,
    biases: Sequence[Bias | None] = (),
) -> Tally:
    """Count verdicts; intervals are bootstrapped over prompt groups.

    Args:
        verdicts: One a comparison.
        groups: Prompt group of each comparison.
        params: Confidence and number of resamples.
        biases: One a comparison, where both orders were asked.
    """
    read = [
        (verdict, group)
        for verdict, group in zip(verdicts, groups, strict=True)
        if verdict is not Verdict.UNPARSED
    ]
    shares: dict[str, Estimate | None] = dict.fromkeys(("win", "tie", "loss", "net"))
    if read:
        named = np.array([group for _, group in read], dtype=np.str_)
        found = {
            verdict.value: np.array([kind is verdict for kind, _ in read], np.float64)
            for verdict in (Verdict.WIN, Verdict.TIE, Verdict.LOSS)
        }
        found["net"] = found["win"] - found["loss"]
        shares = {
            name: mean_by_group(values, named, params) for name, values in found.items()
        }
    return Tally(
        wins=sum(verdict is Verdict.WIN for verdict in verdicts),
        ties=sum(verdict is Verdict.TIE for verdict in verdicts),
        losses=sum(verdict is Verdict.LOSS for verdict in verdicts),
        unparsed=len(verdicts) - len(read),
        favoured_first=sum(bias is Bias.FIRST for bias in biases),
        favoured_second=sum(bias is Bias.SECOND for bias in biases),
        **shares,
    )
