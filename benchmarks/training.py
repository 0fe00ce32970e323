"""Training a reward model: speed and memory against TRL's ``RewardTrainer``."""

from __future__ import annotations

from statistics import median
from typing import Any

from benchmarks import pairs
from benchmarks.child import arguments, hand_back, stopwatch, watch_memory
from benchmarks.common import Result, column, compared, take_turns
from benchmarks.flops import matrix_rate
from benchmarks.tokens import needed_flops, tokens_per_pair

MICROBATCH_TOKENS = 2048
# A whole stretch of grouped batches each, long and short ones: 2 of ours, 1 of TRL's.
STEPS = {"ours": 32, "trl": 8, "trl_grouped": 50}


def options(seed: int) -> dict[str, Any]:
    """Return the training arguments that all contenders share."""
    return {
        "output_dir": str(pairs.BUILD / "output"),
        "learning_rate": pairs.LEARNING_RATE,
        "lr_scheduler_type": "linear",
        "num_train_epochs": 1,
        "per_device_train_batch_size": pairs.BATCH_SIZE,
        "bf16": False,
        "use_cpu": True,
        "gradient_checkpointing": False,
        "save_strategy": "no",
        "logging_steps": 10,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "seed": seed,
        "max_length": None,
    }


def ours(
    model: Any,
    seed: int,
    rows: Any = None,
    words: Any = None,
    tokens: int = MICROBATCH_TOKENS,
    **changes: Any,
) -> Any:
    """Return our trainer over the pairs, or over ``rows`` of another tokenizer."""
    from trl import RewardConfig

    from ser_kedro.models import pack
    from ser_kedro.training.batches import PairSteps
    from ser_kedro.training.reward_trainer import SerRewardTrainer

    rows, words = rows or pairs.load("train"), words or pairs.tokenizer()
    packing = pack.enable(model, bf16=changes.get("bf16", False))
    return SerRewardTrainer(
        model=model,
        args=RewardConfig(**{**options(seed), **changes}),
        train_dataset=rows,
        processing_class=words,
        steps=lambda shard: PairSteps(
            rows,
            packing,
            batch_size=pairs.BATCH_SIZE,
            epochs=1,
            max_tokens_per_microbatch=tokens,
            pad_token_id=words.pad_token_id,
            seed=seed,
            shard=shard,
        ),
    )


def theirs(
    model: Any, seed: int, rows: Any = None, words: Any = None, **changes: Any
) -> Any:
    """Return TRL's trainer over the same pairs, or over ``rows``."""
    from trl import RewardConfig, RewardTrainer

    return RewardTrainer(
        model=model,
        args=RewardConfig(**{**options(seed), **changes}),
        train_dataset=rows or pairs.load("train_whole"),
        processing_class=words or pairs.tokenizer(),
    )


CONTENDERS = {
    "ours": (ours, {}),
    "trl": (theirs, {}),
    # Without the second option the trainer drops the column before the sampler reads
    # it.
    "trl_grouped": (
        theirs,
        {
            "train_sampling_strategy": "group_by_length",
            "remove_unused_columns": False,
        },
    ),
}


def measure() -> Result:
    """Let the contenders take turns."""
    figures = take_turns("benchmarks.training", list(CONTENDERS))
    speeds = {name: column(rows, "pairs_per_second") for name, rows in figures.items()}
    peaks = {name: column(rows, "peak") for name, rows in figures.items()}
    name, unit = f"training speed, {pairs.FULL}", "pairs/s"
    default = "TRL RewardTrainer, default sampling"
    grouped = "TRL RewardTrainer, grouped by length"
    memory = "training, peak anonymous memory"
    return Result(
        [
            compared(name, default, unit, speeds["ours"], speeds["trl"], ">= 3"),
            compared(
                name, grouped, unit, speeds["ours"], speeds["trl_grouped"], ">= 1.5"
            ),
            compared(memory, default, "MiB", peaks["ours"], peaks["trl"], "<= 1"),
            compared(
                memory, grouped, "MiB", peaks["ours"], peaks["trl_grouped"], "<= 1"
            ),
        ],
        f"Repetitions: {len(peaks['ours'])}. "
        + _text(median(speeds["ours"]), median(column(figures["ours"], "matrix_rate"))),
    )


def _text(speed: float, rate: float) -> str:
    needed = needed_flops(pairs.FULL)
    ways = tokens_per_pair(MICROBATCH_TOKENS)
    table = "\n".join(f"| {way} | {tokens:.0f} |" for way, tokens in ways.items())
    return f"""\
Batches of {pairs.BATCH_SIZE} pairs of HH-RLHF, rows of at most {pairs.MAX_LENGTH}
tokens, fp32, AdamW, the same weights to begin with; pairs were encoded before. Steps of
a repetition: {", ".join(f"{name} {steps}" for name, steps in STEPS.items())}; where
batches go by length these are whole stretches, which run through long and short ones.
TRL grouped by length is `train_sampling_strategy="group_by_length"` with a column
`length` (and `remove_unused_columns=False`, without which the trainer drops the column
before its sampler can read it). Ours reads at most {MICROBATCH_TOKENS} tokens in a
forward pass (`reward.max_tokens_per_microbatch`). Memory is the peak of RssAnon while
model and trainer are made and the steps are taken, above the level after imports; TRL's
trainer takes a batch at once, and would hold less with smaller batches and gradient
accumulation. Our passes of {MICROBATCH_TOKENS} tokens were chosen on these very pairs
(section "Settings"), where the
presets for large models say 8192; nothing of the kind was tried for TRL.

Tokens a pair, padding included, over the {len(pairs.load("train"))} training pairs:

| batches | tokens a pair |
|---|---|
{table}

How close to the machine: the matrix products of packed training need
{needed / 1e9:.2f} GFLOP a pair (real tokens only, keys that are seen only; backward
twice forward). At {speed:.1f} pairs/s that is {speed * needed / 1e9:.1f} GFLOP/s. A
plain fp32 product of 4096 x 1024 by 1024 x 1024 reached {rate / 1e9:.1f} GFLOP/s in the
same processes (median), so training reached {speed * needed / rate:.0%} of it."""


def main() -> None:
    """Train for some steps."""
    given = arguments()
    import trl  # noqa: F401

    import ser_kedro.training.batches
    import ser_kedro.training.reward_trainer  # noqa: F401

    make, changes = CONTENDERS[given.contender]
    steps = STEPS[given.contender]
    with watch_memory() as peak:
        model = pairs.new_model(given.seed)
        trainer = make(model, given.seed, max_steps=steps, **changes)
        with stopwatch() as watch:
            trainer.train()
    figures = {
        "pairs_per_second": steps * pairs.BATCH_SIZE / watch["seconds"],
        "peak": peak.above,
    }
    if given.contender == "ours":
        figures["matrix_rate"] = matrix_rate()
    hand_back(figures)


if __name__ == "__main__":
    main()
