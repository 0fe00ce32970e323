"""One epoch of reward training: speed, memory and test accuracy, against TRL's."""

from __future__ import annotations

from typing import Any

from benchmarks import pairs
from benchmarks.child import arguments, hand_back, stopwatch, watch_memory

MICRO_TOKENS = 8192


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


def ours(model: Any, seed: int, **changes: Any) -> Any:
    """Return our trainer over the pairs."""
    from trl import RewardConfig

    from ser_kedro.reward import pack
    from ser_kedro.reward.batches import PairSteps
    from ser_kedro.reward.trainer import SerRewardTrainer

    words, rows = pairs.tokenizer(), pairs.load("train")
    packing = pack.enable(model)
    return SerRewardTrainer(
        model=model,
        args=RewardConfig(**{**options(seed), **changes}),
        train_dataset=rows,
        processing_class=words,
        steps=lambda share: PairSteps(
            rows,
            packing,
            batch_size=pairs.BATCH_SIZE,
            epochs=1,
            micro_tokens=MICRO_TOKENS,
            pad_token_id=words.pad_token_id,
            seed=seed,
            share=share,
        ),
    )


def theirs(model: Any, seed: int, **changes: Any) -> Any:
    """Return TRL's trainer over the same pairs."""
    from trl import RewardConfig, RewardTrainer

    return RewardTrainer(
        model=model,
        args=RewardConfig(**{**options(seed), **changes}),
        train_dataset=pairs.load("train_whole"),
        processing_class=pairs.tokenizer(),
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


def main() -> None:
    """Train for some steps."""
    given = arguments()
    import trl  # noqa: F401

    import ser_kedro.reward.batches
    import ser_kedro.reward.trainer  # noqa: F401

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
