"""Labelling by SmolLM2-135M: our scorer against transformers' own ways."""

from __future__ import annotations

from statistics import median
from typing import Any

from benchmarks import labelling, pairs
from benchmarks import smollm2_pairs as smollm2
from benchmarks.child import arguments, hand_back, stopwatch, watch_memory
from benchmarks.common import (
    Figures,
    Result,
    Row,
    column,
    compared,
    limited,
    take_turns,
)

# Tokens of a forward pass, ours and that of sorted batches.
SCORE_TOKENS = 2048
CONTENDERS = {
    "pipeline": (labelling.CONTENDER, ">= 4"),
    "sorted": ("transformers, sorted by length, batches by tokens", ">= 1.5"),
}


def measure() -> Result:
    """Let the contenders take turns."""
    smollm2.prepare()
    ways = ("ours", *CONTENDERS)
    names = [f"{way}_{kind}" for kind in smollm2.PRECISIONS for way in ways]
    figures = take_turns("benchmarks.smollm2_labelling", names)
    rows = [row for kind in smollm2.PRECISIONS for row in _rows(figures, kind)]
    return Result(rows, _text(figures), title=f"Labelling by {smollm2.NAME}")


def _rows(figures: dict[str, list[Figures]], kind: str) -> list[Row]:
    mine = figures[f"ours_{kind}"]
    rows = []
    for what, unit, name in (
        ("labelling speed", "pairs/s", "pairs_per_second"),
        ("labelling, peak anonymous memory", "MiB", "peak"),
    ):
        for way, (contender, target) in CONTENDERS.items():
            theirs = column(figures[f"{way}_{kind}"], name)
            limit = target if name == "pairs_per_second" else "<= 1"
            title = f"{what}, {smollm2.NAME}, {kind}"
            rows.append(
                compared(title, contender, unit, column(mine, name), theirs, limit)
            )
    if kind == "fp32":
        largest = max(_gaps(mine, figures["pipeline_fp32"]))
        rows.append(
            limited(
                f"labels by {smollm2.NAME}, largest difference of σ(reward), fp32",
                labelling.CONTENDER,
                "probability",
                [largest],
                "<= 0.0001",
            )
        )
    return rows


def _gaps(some: list[Figures], others: list[Figures]) -> list[float]:
    return [
        abs(a - b)
        for one, other in zip(some, others, strict=True)
        for a, b in zip(one["labels"], other["labels"], strict=True)
    ]


def _text(figures: dict[str, list[Figures]]) -> str:
    exact = figures["ours_fp32"]
    lines = []
    for name, found in figures.items():
        way, kind = name.rsplit("_", 1)
        gaps = _gaps(found, exact)
        speed = median(column(found, "pairs_per_second"))
        cells = f"{speed:.2f} | {median(gaps):.1e} | {max(gaps):.1e}"
        lines.append(f"| {way} | {kind} | {cells} |")
    return f"""\
Repetitions: {len(exact)}, each of {smollm2.PAIRS} random pairs, the same for all: a
stretch that is padded as the average one is, without pairs that are cut to
{pairs.MAX_LENGTH} tokens. Text to label: tokenising counts on all sides, the trial of
packing on ours. `pipeline` is given each response's text on its own,
{labelling.BATCH_SIZE} at a time in the order of the data, as in the released script.
The best that we know with transformers alone is "sorted": all texts sorted by length,
batches of at most {SCORE_TOKENS} padded tokens, `model(**inputs)` under
`inference_mode`. Ours is `Scorer.rewards`, as many tokens a pass. In bf16 theirs loads
all weights in bf16; with us (`reward.precision=bf16`) the head stays in fp32. To load a
model and to prepare it (with us, to try packing) does not count.

| way | precision | pairs/s | median difference of σ(reward) | largest |
|---|---|---|---|---|
{chr(10).join(lines)}

Differences are those from ours in fp32, over {len(exact) * 2 * smollm2.PAIRS}
responses."""


def draw(seed: int) -> list[Any]:
    """Return random pairs as text, none of them cut: there the ways would differ."""
    texts = smollm2.texts()
    places = smollm2.typical(seed, smollm2.PAIRS // 2, cut=False)
    return [texts[i] for i in places]


def label_sorted(model: Any, texts: list[str], words: Any) -> list[float]:
    """Return σ(reward) of all texts: sorted by length, in batches by tokens."""
    import torch

    from ser_kedro.models import pack

    ids = words(texts)["input_ids"]
    labels = torch.empty(len(ids))
    with torch.inference_mode():
        for batch in pack.cut([len(row) for row in ids], SCORE_TOKENS):
            given = {"input_ids": [ids[i] for i in batch]}
            inputs = words.pad(given, return_tensors="pt")
            logits = model(**inputs, use_cache=False).logits
            labels[batch] = logits.float().sigmoid().flatten()
    found: list[float] = labels.tolist()
    return found


def main() -> None:
    """Label the pairs of a repetition."""
    given = arguments()
    way, kind = given.contender.rsplit("_", 1)
    import torch
    import transformers.pipelines  # noqa: F401

    import ser_kedro.models.scorer  # noqa: F401

    bf16 = kind == "bf16"
    rows, words = draw(given.seed), smollm2.tokenizer()
    texts = labelling.texts_of(rows, words)
    with watch_memory() as peak:
        halved = bf16 and way != "ours"
        model = smollm2.new_model(torch.bfloat16 if halved else torch.float32).eval()
        if way == "ours":
            scorer = labelling.scorer_of(model, words, SCORE_TOKENS, kind)
        with stopwatch() as watch:
            if way == "ours":
                labels = labelling.label_ours(scorer, rows)
            elif way == "pipeline":
                labels = labelling.label_pipeline(model, texts, words)
            else:
                labels = label_sorted(model, texts, words)
    hand_back(
        {
            "pairs_per_second": len(rows) / watch["seconds"],
            "peak": peak.above,
            "labels": labels,
        }
    )


if __name__ == "__main__":
    main()
