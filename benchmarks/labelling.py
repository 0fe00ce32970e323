"""Labelling pairs: our scorer against the way of the released SER script."""

from __future__ import annotations

import json
from statistics import median
from typing import Any

from benchmarks import pairs
from benchmarks.child import arguments, hand_back, stopwatch
from benchmarks.common import Result, column, compared, limited, take_turns

PAIRS = 300
BATCH_SIZE = 50
CONTENDER = f'pipeline("text-classification", batch_size={BATCH_SIZE})'
# Tokens of a forward pass; see the section on settings.
SCORE_TOKENS = 1024


def measure() -> Result:
    """Let the contenders take turns."""
    figures = take_turns("benchmarks.labelling", ("ours", "pipeline"))
    mine, pipelines = figures["ours"], figures["pipeline"]
    gaps = [
        abs(a - b)
        for one, other in zip(mine, pipelines, strict=True)
        for a, b in zip(one["labels"], other["labels"], strict=True)
    ]
    speeds = (column(rows, "pairs_per_second") for rows in (mine, pipelines))
    return Result(
        [
            compared("labelling speed", CONTENDER, "pairs/s", *speeds, ">= 4"),
            limited(
                "labels, largest difference of σ(reward)",
                CONTENDER,
                "probability",
                [max(gaps)],
                "<= 0.0001",
            ),
        ],
        f"Repetitions: {len(mine)}, each of {PAIRS} training pairs drawn anew,"
        f" {pairs.FULL}, fp32, text to"
        " label: tokenising counts on both sides. The released script gives each"
        " response's text to `pipeline` on its own, 50 texts at a time in the order of"
        " the data, and reads the sigmoid. Ours is `Scorer.rewards`: prompts shared,"
        " rows of like length together, equal responses once; passes of"
        f" {SCORE_TOKENS} tokens, chosen on such pairs, while the script's 50 texts"
        " were left as they are. Median of the"
        f" differences of σ(reward) {median(gaps):.1e} over {len(gaps)} responses.",
    )


def label_ours(scorer: Any, rows: list[Any]) -> list[float]:
    """Return σ(reward) of all responses, pair by pair."""
    import torch

    rewards = scorer.rewards(scorer.encoder.pairs(*zip(*rows, strict=True)))
    labels: list[float] = torch.tensor(rewards).sigmoid().flatten().tolist()
    return labels


def scorer_of(model: Any, words: Any, tokens: int, precision: Any) -> Any:
    """Return what labels on our side, made as a job makes it."""
    from ser_kedro.models.params import Scoring
    from ser_kedro.models.scorer import Scorer

    scoring = Scoring(
        max_length=pairs.MAX_LENGTH, score_tokens=tokens, precision=precision
    )
    return Scorer.of(model, words, scoring)


def label_pipeline(model: Any, texts: list[str], words: Any = None) -> list[float]:
    """Return the same by the pipeline."""
    from transformers import pipeline

    words = words or pairs.tokenizer()
    # The script's own setting cuts texts on the right; ours cuts prompts on the left.
    words.truncation_side = "left"
    classify = pipeline("text-classification", model=model, tokenizer=words)
    answers = classify(
        texts,
        batch_size=BATCH_SIZE,
        function_to_apply="sigmoid",
        truncation=True,
        max_length=pairs.MAX_LENGTH,
    )
    return [answer["score"] for answer in answers]


def texts_of(rows: list[Any], words: Any = None) -> list[str]:
    """Return the whole text of each response, with its closing eos."""
    from ser_kedro.models.encode import Encoder

    encoder = Encoder(words or pairs.tokenizer(), pairs.MAX_LENGTH)
    return [
        encoder.text(prompt, response)
        for prompt, *responses in rows
        for response in responses
    ]


def draw(seed: int) -> list[Any]:
    """Return some pairs as text, none of them cut: there the two ways would differ."""
    import numpy as np

    from ser_kedro.models.encode import Encoder

    rows = json.loads((pairs.BUILD / "train.json").read_text("utf-8"))
    order = np.random.default_rng(seed).permutation(len(rows))[: 2 * PAIRS]
    chosen = [rows[i] for i in order]
    encoder = Encoder(pairs.tokenizer(), pairs.MAX_LENGTH)
    encoded = encoder.pairs(*zip(*chosen, strict=True))
    whole = [r for r, pair in zip(chosen, encoded, strict=True) if not pair.overlong]
    return whole[:PAIRS]


def main() -> None:
    """Label some pairs."""
    given = arguments()
    import transformers.pipelines  # noqa: F401

    import ser_kedro.models.scorer  # noqa: F401

    rows = draw(given.seed)
    model = pairs.new_model(0).eval()
    texts = texts_of(rows)
    ours = given.contender == "ours"
    scorer = scorer_of(model, pairs.tokenizer(), SCORE_TOKENS, "fp32") if ours else None
    with stopwatch() as watch:
        labels = label_ours(scorer, rows) if ours else label_pipeline(model, texts)
    hand_back({"pairs_per_second": len(rows) / watch["seconds"], "labels": labels})


if __name__ == "__main__":
    main()
