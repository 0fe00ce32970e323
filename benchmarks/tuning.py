"""How our own settings were chosen: padding by count, speed by processor time."""

from __future__ import annotations

import time

from benchmarks import labelling, pairs, training
from benchmarks.child import arguments, hand_back
from benchmarks.common import Result, run_child
from benchmarks.tokens import our_tokens

TOKENS = (512, 1024, 2048, 4096, 8192, 16384)
MEGABATCHES = (4, 8, 16, 32, 64)
# Of the first 48: one in six, of three stretches.
STEPS = range(3, 48, 6)
SCORED = 200


def measure() -> Result:
    """Measure all settings in one process, in turns."""
    speeds = run_child("benchmarks.tuning", "ours", threads=1)
    times = "\n".join(
        f"| {n} | {speeds[f'train {n}']:.1f} | {speeds[f'score {n}']:.1f} |"
        for n in TOKENS
    )
    head = " | ".join(str(n) for n in TOKENS)
    counts = "\n".join(
        f"| {size} | " + " | ".join(f"{our_tokens(n, size):.0f}" for n in TOKENS) + " |"
        for size in MEGABATCHES
    )
    return Result(
        [],
        f"""\
Tokens of a forward pass (`reward.max_tokens_per_microbatch` in training,
`reward.score_tokens` in scoring) against pairs a second of processor time, one thread,
{pairs.FULL}. On a CPU small passes are no slower, at times much faster, and hold less
memory; a GPU wants large ones, so the presets for large models keep theirs.

| tokens | training, pairs/s | scoring, pairs/s |
|---|---|---|
{times}

`MEGABATCH`, the steps that are sorted by length together, against tokens a pair with
padding, by tokens of a forward pass:

| steps | {head} |
|---|{"---|" * len(TOKENS)}
{counts}""",
        title="Settings",
    )


def main() -> None:
    """Train and score with each setting, in turns."""
    given = arguments()
    from ser_kedro.models import pack
    from ser_kedro.models.encode import Encoder
    from ser_kedro.models.scorer import Scorer

    model = pairs.new_model(given.seed)
    trainer = training.ours(model, given.seed, max_steps=1)
    trainer.create_optimizer()
    encoder = Encoder(pairs.tokenizer(), pairs.MAX_LENGTH)
    texts = labelling.draw(given.seed)[:SCORED]
    encoded = encoder.pairs(*zip(*texts, strict=True))
    packing = pack.enable(model)
    spent = {f"{kind} {n}": 0.0 for kind in ("train", "score") for n in TOKENS}

    def train(tokens: int, step: int) -> None:
        trainer.steps.max_tokens_per_microbatch = tokens
        trainer.training_step(model, trainer.steps[step])
        model.zero_grad()

    train(TOKENS[0], 0)
    for step in STEPS:
        for tokens in TOKENS:
            start = time.process_time()
            train(tokens, step)
            spent[f"train {tokens}"] += time.process_time() - start
    model.eval()
    for tokens in TOKENS:
        start = time.process_time()
        Scorer(model, encoder, packing, tokens).rewards(encoded)
        spent[f"score {tokens}"] += time.process_time() - start
    trained = len(STEPS) * pairs.BATCH_SIZE
    hand_back(
        {
            name: (trained if name.startswith("train") else len(encoded)) / seconds
            for name, seconds in spent.items()
        }
    )


if __name__ == "__main__":
    main()
