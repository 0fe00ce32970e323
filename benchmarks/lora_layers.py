"""Adapters on the last layers of SmolLM2: what they save of training a reward model."""

from __future__ import annotations

import json
from typing import Any

from benchmarks import pairs
from benchmarks import smollm2_pairs as smollm2
from benchmarks.child import arguments, hand_back, stopwatch, watch_memory
from benchmarks.common import Figures, Result, column, compared, take_turns

LAST = 6
MAX_LENGTH = 256
PAIRS, BATCH_SIZE = 8, 4
MICROBATCH_TOKENS = 2048
SIZES: dict[str, Any] = {"r": 16, "alpha": 32}
# What is trained, in the order of the table; each with and without checkpointing.
TRAINED = {
    "full": "all weights",
    "lora": "LoRA, all layers",
    "last": f"LoRA, last {LAST} layers",
}
AGAIN = "_again"
CONTENDERS = [name + again for name in TRAINED for again in ("", AGAIN)]


def measure() -> Result:
    """Let the contenders take turns."""
    smollm2.prepare()
    found = take_turns("benchmarks.lora_layers", CONTENDERS)
    rows = []
    for again, how in (("", ""), (AGAIN, ", checkpointing")):
        last, everywhere = found["last" + again], found["lora" + again]
        title = f"SmolLM2, {TRAINED['last']}{how}"
        for what, unit, name, target in (
            ("training speed", "pairs/s", "pairs_per_second", ">= 1.5"),
            ("peak anonymous memory", "MiB", "peak", "<= 1"),
        ):
            ours, theirs = column(last, name), column(everywhere, name)
            rows.append(
                compared(
                    f"{title}: {what}",
                    "adapters everywhere",
                    unit,
                    ours,
                    theirs,
                    target,
                )
            )
    return Result(rows, _text(found), title="LoRA on the last layers")


def _text(found: dict[str, list[Figures]]) -> str:
    from statistics import median

    lines = []
    for name, title in TRAINED.items():
        for again, how in (("", "no"), (AGAIN, "yes")):
            figures = found[name + again]
            speed = median(column(figures, "pairs_per_second"))
            peak = median(column(figures, "peak"))
            trained = int(figures[0]["trained"])
            lines.append(
                f"| {title} | {how} | {trained:,} | {speed:.2f} | {peak:,.0f} |"
            )
    table = "\n".join(lines)
    return f"""\
Repetitions: {len(figures)}. SmolLM2-135M-Instruct ({int(figures[0]["layers"])} layers)
as a reward model, {PAIRS} pairs of HH-RLHF in steps of {BATCH_SIZE}, rows of at most
{MAX_LENGTH} tokens, passes of at most {MICROBATCH_TOKENS} tokens, fp32, AdamW. LoRA: r
{SIZES["r"]} on all linear layers (`lora.last_layers: {LAST}` in the last rows), and
the head. Memory is the peak of RssAnon while the trainer is made and the steps are
taken, above the level with the model loaded. Checkpointing is
`gradient_checkpointing: true`.

| trained | checkpointing | trainable weights | pairs/s | peak, MiB |
|---|---|---|---|---|
{table}"""


def trainer_of(contender: str, seed: int) -> Any:
    """Return a function that makes the contender's trainer."""
    from datasets import Dataset
    from trl import RewardConfig

    from benchmarks.training import options
    from ser_kedro.models import pack
    from ser_kedro.models.encode import Encoder
    from ser_kedro.models.last_layers import stop_gradients
    from ser_kedro.models.lora import adapter_config
    from ser_kedro.models.params import LoraParams
    from ser_kedro.training.batches import SAID, PairSteps
    from ser_kedro.training.reward_trainer import SerRewardTrainer

    model, words = smollm2.new_model(), smollm2.tokenizer()
    texts = json.loads((pairs.BUILD / "train.json").read_text("utf-8"))[: 2 * PAIRS]
    encoded = Encoder(words, MAX_LENGTH).pairs(*zip(*texts, strict=True))
    kept = [pair for pair in encoded if not pair.equal][:PAIRS]
    said = dict(zip(SAID, (1.0, 1.0, 0.0), strict=True))
    rows = Dataset.from_dict(
        {
            "prompt_ids": [pair.prompt for pair in kept],
            "chosen_ids": [pair.a for pair in kept],
            "rejected_ids": [pair.b for pair in kept],
            **{name: [value] * PAIRS for name, value in said.items()},
        }
    )
    packing = pack.enable(model)
    trained, again = contender.removesuffix(AGAIN), contender.endswith(AGAIN)
    last = LAST if trained == "last" else None
    lora = None if trained == "full" else LoraParams(**SIZES, last_layers=last)

    def make() -> Any:
        adapters = adapter_config(lora, "SEQ_CLS", model)
        stop_gradients(model, lora)
        return SerRewardTrainer(
            model=model,
            args=RewardConfig(**options(seed) | {"gradient_checkpointing": again}),
            train_dataset=rows,
            processing_class=words,
            peft_config=adapters,
            steps=lambda shard: PairSteps(
                rows,
                packing,
                batch_size=BATCH_SIZE,
                epochs=1,
                max_tokens_per_microbatch=MICROBATCH_TOKENS,
                pad_token_id=words.pad_token_id,
                seed=seed,
                shard=shard,
            ),
        )

    return make


def main() -> None:
    """Train for some steps."""
    given = arguments()
    make = trainer_of(given.contender, given.seed)
    with watch_memory() as peak:
        trainer = make()
        with stopwatch() as watch:
            trainer.train()
    weights = list(trainer.model.parameters())
    hand_back(
        {
            "pairs_per_second": PAIRS / watch["seconds"],
            "peak": peak.above,
            "trained": sum(w.numel() for w in weights if w.requires_grad),
            "layers": trainer.model.config.num_hidden_layers,
        }
    )


if __name__ == "__main__":
    main()
