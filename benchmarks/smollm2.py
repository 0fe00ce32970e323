"""Training SmolLM2-135M: speed and memory against TRL and against flash-pref."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import pairs, training
from benchmarks import smollm2_pairs as smollm2
from benchmarks.child import arguments, hand_back, stopwatch, watch_memory
from benchmarks.common import Figures, Result, Row, column, compared, take_turns
from benchmarks.flops import matrix_rate
from benchmarks.tokens import needed_flops, our_tokens, padded

if TYPE_CHECKING:
    from ser_kedro.models.encode import EncodedPair

# Pairs of a forward pass of theirs; a step of 16 is gradient accumulation.
PASSES = {"trl": 8, "trl_grouped": 4, "flash_pref": 4, "trl_grouped16": 16}
WAYS = {
    "fp32": ("ours", "trl", "trl_grouped", "flash_pref"),
    # At once, 16 pairs in fp32 need more memory than the machine has.
    "bf16": ("ours", *PASSES),
}
LEARNING_RATE = 1e-5
FLASH_PREF = "0.1.1"
FOLDER = pairs.BUILD / f"flash-pref-{FLASH_PREF}"
# The last versions that flash-pref takes, and what goes with them.
PACKAGES = (
    f"flash-pref=={FLASH_PREF}",
    "transformers==4.51.3",
    "trl==0.17.0",
    "accelerate==1.6.0",
    "datasets==3.6.0",
    "huggingface-hub==0.36.0",
    "peft==0.15.2",
    "tokenizers==0.21.4",
)


def measure() -> Result:
    """Let the contenders take turns."""
    smollm2.prepare()
    _install()
    names = [f"{way}_{kind}" for kind, ways in WAYS.items() for way in ways]
    paths = {name: str(FOLDER) for name in names if name.startswith("flash_pref")}
    figures = take_turns("benchmarks.smollm2", names, paths=paths)
    rows = [row for kind in WAYS for row in _rows(figures, kind)]
    return Result(rows, _text(figures), title=f"Training {smollm2.NAME}")


def _rows(figures: dict[str, list[Figures]], kind: str) -> list[Row]:
    def figure(way: str, name: str) -> list[float]:
        return column(figures[f"{way}_{kind}"], name)

    best = _best(figures, kind)
    contenders = {
        "trl": ("TRL RewardTrainer, default sampling", ">= 3"),
        best: ("TRL RewardTrainer, grouped by length", ">= 1.5"),
        "flash_pref": (f"flash-pref {FLASH_PREF}, grouped by length", ">= 1"),
    }
    parts = (
        (f"training speed, {smollm2.NAME}, {kind}", "pairs/s", "pairs_per_second"),
        (f"training, peak anonymous memory, {smollm2.NAME}, {kind}", "MiB", "peak"),
    )
    return [
        compared(
            what,
            contender,
            unit,
            figure("ours", name),
            figure(way, name),
            target if name == "pairs_per_second" else "<= 1",
        )
        for what, unit, name in parts
        for way, (contender, target) in contenders.items()
    ]


def _best(figures: dict[str, list[Figures]], kind: str) -> str:
    """Return the passes that suit TRL's grouped batches best."""
    grouped = [way for way in WAYS[kind] if way.startswith("trl_grouped")]
    return max(grouped, key=lambda way: _speed(figures, way, kind))


def _speed(figures: dict[str, list[Figures]], way: str, kind: str) -> float:
    return median(column(figures[f"{way}_{kind}"], "pairs_per_second"))


def _text(figures: dict[str, list[Figures]]) -> str:
    rounds = len(figures["ours_fp32"])
    everything = smollm2.everything()
    drawn = [everything[i] for seed in range(rounds) for i in smollm2.drawn(seed)]
    means = ", ".join(f"{n:.0f}" for n in smollm2.lengths(everything).mean(0))
    speeds = "\n".join(
        f"| {way} | {PASSES.get(way, '')} | "
        + " | ".join(
            f"{_speed(figures, way, kind):.3f}" if way in WAYS[kind] else ""
            for kind in WAYS
        )
        + " |"
        for way in WAYS["bf16"]
    )
    needed = needed_flops(smollm2.SIZE, smollm2.lengths(drawn))
    counts = "\n".join(_counts(everything, rounds))
    rates = "\n".join(_rate(figures, kind, needed) for kind in WAYS)
    return f"""\
SmolLM2-135M-Instruct with a reward head: 30 layers x 576, 9 heads that share 3 of keys
and values, all 134.5 million weights trained by AdamW, batches of {pairs.BATCH_SIZE}
pairs of HH-RLHF in its own chat template, rows of at most {pairs.MAX_LENGTH} tokens (on
average prompt, chosen and rejected have {means}), no gradient checkpointing. bf16 is
autocast over fp32 weights, `bf16=True` in all trainers.

Repetitions: {rounds}, of {smollm2.STEPS} steps each. How long pairs are decides how
fast they are. Grouped by length, all contenders of a repetition read the same
{smollm2.PAIRS} pairs: {smollm2.STEPS} batches out of a stretch of 50 that transformers'
`LengthGroupedSampler` sorts, evenly from long to short, in the order of
`group_by_length` among all pairs (within so few the sampler would group nothing); ours
plans its own steps out of them, and reads at most {training.MICROBATCH_TOKENS} tokens a
pass. These pairs lack the longest, to which most random batches are padded; so TRL's
default reads {smollm2.PAIRS} random pairs of all, a stretch that is padded as the
average one is. The table of the section "Packing and sharing apart" has random batches
of the same pairs. Tokens a pair, padding included:

| batches | here | among all pairs |
|---|---|---|
{counts}

TRL takes {PASSES["trl"]} pairs a pass by default (`per_device_train_batch_size` of
transformers); a step of {pairs.BATCH_SIZE} is made of passes by gradient accumulation.
Grouped by length {PASSES["trl_grouped"]} pairs a pass were tried against all
{PASSES["trl_grouped16"]} at once where the memory allows it, in bf16; the faster is the
row of the table above. Pairs a second:

| contender | pairs a pass | {" | ".join(WAYS)} |
|---|---|{"---|" * len(WAYS)}
{speeds}

How close to the machine: the matrix products of packed training need {needed / 1e9:.0f}
GFLOP a pair (real tokens only, keys that are seen only; backward twice forward).

| precision | reached, GFLOP/s | plain product, GFLOP/s | share |
|---|---|---|---|
{rates}

The plain product is of 4096 x 1024 by 1024 x 1024, in the same processes.

**Liger** (`use_liger_kernel=True`) runs on no CPU: with liger-kernel 0.8.5 and triton
3.9.0 TRL's first step ends in "RuntimeError: 0 active drivers ([]). There should only
be one.", since Triton has no driver for a CPU.

**Prompt sharing is not ours alone.** flash-pref (MIT) shares prompts in TRL's trainer
(`FlashRewardTrainer`), turbo-alignment packs prompt, chosen and rejected into one
sequence. flash-pref {FLASH_PREF} wants transformers below 4.52, so it runs here with
{", ".join(name.replace("==", " ") for name in PACKAGES[1:3])} in a folder of its own,
and the same torch. Without FlashAttention 2 (which runs on GPUs alone, and cannot be
installed here) it takes its plain path: the prompt is shared in the linear layers, and
attention reads whole padded rows. It was not measured on a GPU. Others report for
prompt sharing in DPO (Wang and Hegde, 2024, arXiv:2410.20305) 1.41x on HH-RLHF and
1.17x on UltraFeedback over packed rows with FlashAttention-3."""


def _counts(everything: list[EncodedPair], rounds: int) -> Iterator[str]:
    """Yield lines of the padded tokens a pair, here and among all pairs."""
    costs = np.array(smollm2.longest(everything))
    orders = {
        "trl": np.random.default_rng(0).permutation(len(costs)),
        "trl_grouped": smollm2.grouped(everything, 0),
    }
    names = {
        "trl": "random (TRL's default)",
        "trl_grouped": "grouped by length (TRL, flash-pref's attention)",
        "ours": "packed and grouped (ours)",
    }
    for way, name in names.items():
        read = [picks(way, seed) for seed in range(rounds)]
        if way == "ours":
            sizes = smollm2.lengths(everything)
            limit = training.MICROBATCH_TOKENS
            here = np.mean([our_tokens(limit, sizes=sizes[one]) for one in read])
            among_all = our_tokens(limit, sizes=sizes)
        else:
            size = PASSES[way]
            here = np.mean([padded(costs, one, 2, size) for one in read])
            among_all = padded(costs, orders[way], 2, size)
        yield f"| {name} | {here:.0f} | {among_all:.0f} |"


def _rate(figures: dict[str, list[Figures]], kind: str, needed: float) -> str:
    mine = figures[f"ours_{kind}"]
    reached = _speed(figures, "ours", kind) * needed / 1e9
    plain = median(column(mine, "matrix_rate")) / 1e9
    return f"| {kind} | {reached:.0f} | {plain:.0f} | {reached / plain:.0%} |"


def _install() -> None:
    if FOLDER.is_dir():
        return
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    partial = FOLDER.with_suffix(".partial")
    subprocess.run([*pip, "--target", str(partial), *PACKAGES], check=True)
    partial.rename(FOLDER)


def picks(way: str, seed: int) -> list[int]:
    """Return the pairs that a contender reads in a repetition, in their order."""
    if way == "trl":
        return smollm2.typical(seed, PASSES[way])
    return smollm2.drawn(seed)


def make(way: str, seed: int, **options: Any) -> Any:
    """Return a contender's trainer over the pairs of a repetition."""
    everything = smollm2.everything()
    rows = [everything[i] for i in picks(way, seed)]
    if way == "flash_pref":
        return _flash_pref(rows, seed, options)
    given = (smollm2.new_model(), seed)
    words = smollm2.tokenizer()
    if way == "ours":
        return training.ours(*given, smollm2.split(rows), words, **options)
    # The pairs are in the order of the sampler among all pairs already.
    options["train_sampling_strategy"] = "sequential"
    return training.theirs(*given, smollm2.whole(rows), words, **options)


def _flash_pref(rows: Any, seed: int, options: dict[str, Any]) -> Any:
    from datasets import Dataset
    from flash_pref import FlashRewardTrainer
    from torch.utils.data import SequentialSampler
    from transformers import (
        LlamaForSequenceClassification,
        PreTrainedTokenizerFast,
    )
    from trl import RewardConfig

    class Sequential(FlashRewardTrainer):  # type: ignore[misc]
        def _get_train_sampler(self, *args: Any) -> Any:
            return SequentialSampler(self.train_dataset)

    columns: dict[str, list[list[int]]] = {}
    for name in ("chosen", "rejected"):
        whole = [row.prompt + (row.a if name == "chosen" else row.b) for row in rows]
        columns[f"input_ids_{name}"] = whole
        columns[f"attention_mask_{name}"] = [[1] * len(ids) for ids in whole]
    # Their transformers knows the base of rotations by its old name only.
    model = LlamaForSequenceClassification.from_pretrained(
        smollm2.MODEL, rope_theta=smollm2.ROPE_THETA
    )
    return Sequential(
        model=model,
        args=RewardConfig(**{**training.options(seed), **options}),
        train_dataset=Dataset.from_dict(columns),
        processing_class=PreTrainedTokenizerFast(
            tokenizer_file=str(smollm2.MODEL / "tokenizer.json"), pad_token="<|pad|>"
        ),
    )


def main() -> None:
    """Train on the pairs of a repetition."""
    given = arguments()
    way, kind = given.contender.rsplit("_", 1)
    _import(way)
    size = PASSES.get(way, pairs.BATCH_SIZE)
    with watch_memory() as peak:
        trainer = make(
            way,
            given.seed,
            bf16=kind == "bf16",
            learning_rate=LEARNING_RATE,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=pairs.BATCH_SIZE // size,
            max_steps=smollm2.STEPS,
        )
        with stopwatch() as watch:
            trainer.train()
    figures = {
        "pairs_per_second": smollm2.PAIRS / watch["seconds"],
        "peak": peak.above,
    }
    if way == "ours":
        figures["matrix_rate"] = matrix_rate(kind=kind)
    hand_back(figures)


def _import(way: str) -> None:
    import trl  # noqa: F401

    if way == "flash_pref":
        import flash_pref  # noqa: F401
    else:
        import ser_kedro.training.batches
        import ser_kedro.training.reward_trainer  # noqa: F401


if __name__ == "__main__":
    main()
