"""Sampling of answers: SmolLM2 on HH prompts, ours against ``generate``."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any, NamedTuple

from benchmarks import pairs
from benchmarks.child import arguments, hand_back, stopwatch
from benchmarks.common import Result, column, compared, take_turns

NAME = "SmolLM2-135M"
PROMPT, ANSWER = 256, 64
TEMPERATURE = 1.0


class Case(NamedTuple):
    """What is sampled, and how the model computes.

    Attributes:
        prompts: Of the batch.
        answers: To each prompt.
        weights: Precision in which the model is loaded.
        computes: Precision of its matrix products.
    """

    prompts: int
    answers: int
    weights: str
    computes: str

    def __str__(self) -> str:
        """Name it, for the table."""
        held = " from fp32 weights" if self.weights != self.computes else ""
        each = f"{self.answers} answers each" if self.answers > 1 else "an answer each"
        return f"{self.prompts} prompts, {each}, {self.computes}{held}"


# Batches as in the preset smollm2_135m: of ppo and of pool.
CASES = {
    "ppo_fp32": Case(8, 1, "fp32", "fp32"),
    "ppo_bf16": Case(8, 1, "fp32", "bf16"),
    "half": Case(8, 1, "bf16", "bf16"),
    "pool_fp32": Case(4, 4, "fp32", "fp32"),
    "pool_bf16": Case(4, 4, "bf16", "bf16"),
}


def measure() -> Result:
    """Let the contenders take turns."""
    figures = take_turns("benchmarks.generation", ("ours", "generate"))
    rows = [
        compared(
            f"sampling, {case}",
            "transformers generate",
            "tokens/s",
            *(column(figures[name], key) for name in ("ours", "generate")),
            ">= 1",
        )
        for key, case in CASES.items()
    ]
    return Result(
        rows,
        f"Repetitions: {len(figures['ours'])}. {NAME} answers prompts of HH-RLHF (at"
        f" most {PROMPT} tokens) with at most {ANSWER} new tokens, sampled from all"
        f" tokens at temperature {TEMPERATURE:g}; prompts are padded on the left, and"
        " there is a KV cache. Tokens up to an answer's end count. `generate` takes a"
        " batch at once, `num_return_sequences` where a prompt has several answers."
        " Where fp32 weights compute in bf16 (as in PPO that trains all of them) it"
        " runs under autocast; ours makes bf16 copies of the linear layers first,"
        " within the time.",
        title=f"Sampling of {NAME}",
    )


def load(weights: str) -> tuple[Any, Any]:
    """Return model and tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from ser_kedro.models.gguf_place import SMOLLM2
    from ser_kedro.models.reward_model import from_pretrained

    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[weights]
    model = from_pretrained(AutoModelForCausalLM, SMOLLM2, dtype=dtype).eval()
    return model, from_pretrained(AutoTokenizer, SMOLLM2)


def draw(tokenizer: Any, seed: int, count: int) -> Any:
    """Return a batch of prompts."""
    import numpy as np
    import torch

    from ser_kedro.models.encode import Encoder
    from ser_kedro.policy.batch import collate

    rows = json.loads((pairs.BUILD / "train.json").read_text("utf-8"))
    chosen = np.random.default_rng(seed).permutation(len(rows))[:count]
    encoder = Encoder(tokenizer, PROMPT)
    prompts = [encoder.prompt_ids(rows[i][0]) for i in chosen]
    pad = tokenizer.pad_token_id or 0
    return collate(prompts, [[]] * count, pad, torch.device("cpu"))


def ours(model: Any, batch: Any, case: Case, ends: set[int]) -> int:
    """Sample in our way; return the number of tokens."""
    from ser_kedro.models.half import bf16_linears
    from ser_kedro.policy.generate import sample
    from ser_kedro.policy.ppo_params import PpoParams

    params = PpoParams(max_new_tokens=ANSWER, temperature=TEMPERATURE)
    mixed = case.weights != case.computes
    with ExitStack() as stack:
        stack.enter_context(bf16_linears(model, enabled=mixed))
        stack.enter_context(_autocast(mixed))
        answers = sample(model, batch, params, ends, case.answers)
    return sum(map(len, answers))


def generate(model: Any, batch: Any, case: Case, ends: set[int]) -> int:
    """Sample by ``generate``; return the number of tokens."""
    import torch

    with torch.no_grad(), _autocast(case.weights != case.computes):
        ids = model.generate(
            input_ids=batch.prompts,
            attention_mask=batch.prompt_mask.long(),
            do_sample=True,
            max_new_tokens=ANSWER,
            num_return_sequences=case.answers,
            temperature=TEMPERATURE,
            top_k=0,
            top_p=1.0,
            eos_token_id=sorted(ends),
            pad_token_id=min(ends),
        )
    rows = ids[:, batch.prompts.shape[1] :].tolist()
    return sum(
        next((i + 1 for i, token in enumerate(row) if token in ends), len(row))
        for row in rows
    )


def _autocast(wanted: bool) -> AbstractContextManager[Any]:
    import torch

    return torch.autocast("cpu", torch.bfloat16) if wanted else nullcontext()


def main() -> None:
    """Sample all cases, with the same prompts and seed as the other contender."""
    given = arguments()
    import torch

    from ser_kedro.policy.generate import ends_of

    way = {"ours": ours, "generate": generate}[given.contender]
    figures = {}
    for weights in ("fp32", "bf16"):
        model, tokenizer = load(weights)
        ends = ends_of(model, tokenizer)
        for key, case in CASES.items():
            if case.weights != weights:
                continue
            batch = draw(tokenizer, given.seed, case.prompts)
            torch.manual_seed(given.seed)
            with stopwatch() as watch:
                tokens = way(model, batch, case, ends)
            figures[key] = tokens / watch["seconds"]
            figures[f"{key}_tokens"] = tokens
    hand_back(figures)


if __name__ == "__main__":
    main()
