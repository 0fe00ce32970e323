"""Memory of one training step of SmolLM2, in passes that fit the memory."""

from __future__ import annotations

from typing import Any

from benchmarks import pairs
from benchmarks import smollm2_pairs as smollm2
from benchmarks.child import arguments, hand_back, watch_memory
from benchmarks.common import Result, limited, run_child

# 6 GB in MiB.
LIMIT = 5722
WAYS: dict[str, dict[str, Any]] = {
    "fp32": {},
    "fp32, checkpointing": {"gradient_checkpointing": True},
    "bf16": {"bf16": True},
}


def measure() -> Result:
    """Take one step each way."""
    smollm2.prepare()
    found = {way: run_child("benchmarks.step_memory", way) for way in WAYS}
    rows = [
        limited(
            f"one training step of {smollm2.NAME}, {way}: peak anonymous memory",
            "6 GB",
            "MiB",
            [figures["peak"]],
            f"<= {LIMIT}",
        )
        for way, figures in found.items()
    ]
    lines = "\n".join(
        f"| {way} | {figures['tokens']:.0f} | {figures['peak']:,.0f} |"
        for way, figures in found.items()
    )
    return Result(
        rows, _TEXT.format(lines=lines, size=pairs.BATCH_SIZE), title="Memory"
    )


_TEXT = """\
One optimiser step of {size} pairs of HH-RLHF that are padded as random ones are, all
weights, AdamW, with `reward.max_tokens_per_microbatch: auto`. Memory is the peak of
RssAnon above the level after imports: model, trainer, the measuring of a pass, the
comparison of packed with plain rows, and the step.

| way | tokens of a pass | peak, MiB |
|---|---|---|
{lines}"""


def main() -> None:
    """Take a step as a training begins."""
    given = arguments()
    from benchmarks.training import ours
    from ser_kedro.training.packing_check import check_packing

    everything = smollm2.everything()
    rows = [everything[i] for i in smollm2.typical(given.seed, pairs.BATCH_SIZE)]
    with watch_memory() as peak:
        trainer = ours(
            smollm2.new_model(),
            given.seed,
            smollm2.split(rows[: pairs.BATCH_SIZE]),
            smollm2.tokenizer(),
            max_steps=1,
            **WAYS[given.contender],
        )
        check_packing(trainer)
        trainer.fit_memory()
        trainer.train()
    tokens = trainer.steps.max_tokens_per_microbatch
    hand_back({"peak": peak.above, "tokens": tokens})


if __name__ == "__main__":
    main()
