"""One epoch for each of five seeds: our test accuracy against TRL's."""

from __future__ import annotations

from statistics import mean, stdev
from typing import Any

from benchmarks import pairs, training
from benchmarks.child import arguments, hand_back
from benchmarks.common import Result, column, limited, take_turns

# At the size that speed is measured at, TRL's five epochs would take hours.
SIZE = pairs.Size(layers=2, hidden=128, intermediate=344, heads=4)
SEEDS = range(5)


def measure() -> Result:
    """Train with all seeds, in turns."""
    figures = take_turns("benchmarks.accuracy", ("ours", "trl"), SEEDS)
    mine, trls = (column(figures[name], "accuracy") for name in ("ours", "trl"))
    gap, spread = abs(mean(mine) - mean(trls)), stdev(trls)
    row = limited(
        "test accuracy after one epoch, 5 seeds",
        "TRL RewardTrainer, difference of the means in its standard deviations",
        "standard deviations",
        [gap / spread],
        "<= 1",
    )
    return Result(
        [row],
        f"{SIZE}, all {len(pairs.load('train'))} training pairs once,"
        f" {len(pairs.load('test'))} test pairs; a seed draws the weights (the same"
        " for both) and the order (each trainer's own: ours by length within"
        " megabatches, TRL's at random). Accuracy of ours"
        f" {_percent(mine)}, mean {mean(mine):.1%}; of TRL's {_percent(trls)}, mean"
        f" {mean(trls):.1%}, standard deviation {spread:.1%}. The difference is"
        f" {gap:.1%}. One epoch from random weights leaves both near chance, so this"
        " shows that neither is behind the other, not that either has learnt much.",
    )


def _percent(values: list[float]) -> str:
    return ", ".join(f"{100 * value:.1f}" for value in values) + " %"


def accuracy(model: Any) -> float:
    """Return the share of test pairs whose preferred response has more reward."""
    from ser_kedro.models.encode import EncodedPair, Encoder
    from ser_kedro.models.pack import Packing
    from ser_kedro.models.scorer import Scorer

    encoder = Encoder(pairs.tokenizer(), pairs.MAX_LENGTH)
    rows = [
        EncodedPair(row["prompt_ids"], row["chosen_ids"], row["rejected_ids"], False)
        for row in pairs.load("test")
    ]
    scorer = Scorer(model.eval(), encoder, Packing(False, "plain for both"), 8192)
    chosen, rejected = scorer.rewards(rows).T
    return float(((chosen > rejected) + 0.5 * (chosen == rejected)).mean())


def main() -> None:
    """Train one epoch and test."""
    given = arguments()
    make, changes = training.CONTENDERS[given.contender]
    model = pairs.new_model(given.seed, SIZE)
    make(model, given.seed, **changes).train()
    hand_back({"accuracy": accuracy(model)})


if __name__ == "__main__":
    main()
