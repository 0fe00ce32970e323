"""Training and labelling on a GPU against TRL and transformers.

Needs a GPU, and no other data than what the repository ships. Adds what was measured to
docs/gpu.json; docs/gpu.md says what was found.

Usage: ``python -m benchmarks.gpu [PART …]``, such as ``"training 1B"``; none: all.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
from datasets import Dataset

from benchmarks import labelling, pairs, training
from benchmarks.flops import seen_packed, training_flops

PAGE = pairs.ROOT / "docs" / "gpu.json"
SAMPLE = pairs.ROOT / "data" / "hh_rlhf_sample" / "train.jsonl.gz"
# A Llama of SmolLM2-135M's shape and one of Llama-3.2-1B's, both with random weights,
# which take as long as trained ones; and how many pairs each reads.
SMALL = pairs.Size(layers=30, hidden=576, intermediate=1536, heads=9, kv_heads=3)
LARGE = pairs.Size(layers=16, hidden=2048, intermediate=8192, heads=32, kv_heads=8)
SIZES = {"135M": (SMALL, 640), "1B": (LARGE, 320)}
ROUNDS = 2
TOKENS = 8192
LENGTHS = (1024, 2048, 4096, 8192)


def main() -> None:
    """Measure all that this machine can, and keep what was measured."""
    gpu = torch.cuda.is_available()
    if not gpu and "--rehearse" not in sys.argv:
        sys.exit("benchmarks.gpu: there is no GPU")
    asked = [part for part in sys.argv[1:] if not part.startswith("--")]
    rows = encoded()
    for part, work in parts(rows, rehearse=not gpu).items():
        if not asked or part in asked:
            _keep(part, {"device": _name(), **work()})


def parts(rows: list[Any], *, rehearse: bool) -> dict[str, Callable[[], Any]]:
    """Return what can be measured, by name; tiny sizes to rehearse on a CPU."""
    tiny = pairs.Size(1, 32, 64, 4)
    sizes = {"tiny": (tiny, 32)} if rehearse else SIZES
    found: dict[str, Callable[[], Any]] = {}
    for name, (size, count) in sizes.items():
        found[f"training {name}"] = partial(train, size, rows[:count])
        found[f"labelling {name}"] = partial(label, size, rows[:count])
    for length in (256,) if rehearse else LENGTHS:
        size = tiny if rehearse else LARGE
        found[f"attention {length}"] = partial(attention, size, length)
    return found


def _name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"


def _keep(part: str, figures: dict[str, Any]) -> None:
    file = Path(os.environ.get("OUT", PAGE.parent)) / PAGE.name
    found = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    file.write_text(json.dumps(found | {part: figures}, indent=2) + "\n", "utf-8")
    print(part, json.dumps(figures), flush=True)


def device() -> str:
    """Return what everything runs on."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def words() -> Any:
    """Return a tokenizer that was trained on the sample, made once."""
    from transformers import AutoTokenizer

    from ser_kedro.models.scratch import train_tokenizer

    folder = pairs.BUILD / "gpu_tokenizer"
    if not folder.is_dir():
        turns = (
            text
            for prompt, *responses in texts()
            for text in (*(turn["content"] for turn in prompt), *responses)
        )
        train_tokenizer(turns, pairs.VOCABULARY).save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def texts() -> list[Any]:
    """Return the pairs of the sample: prompt, chosen and rejected."""
    from ser_kedro.preferences.schema import Pair
    from ser_kedro.preferences.source import PreferenceSource

    source = PreferenceSource(path=str(SAMPLE), test_path=str(SAMPLE), format="hh")
    found = source.pairs("train")
    return [pairs._row(pair) for pair in found if isinstance(pair, Pair)]


def encoded() -> list[Any]:
    """Return the same, encoded, in a random order; each with its text."""
    from ser_kedro.models.encode import Encoder

    rows = texts()
    found = Encoder(words(), pairs.MAX_LENGTH).pairs(*zip(*rows, strict=True))
    kept = [
        (pair, row)
        for pair, row in zip(found, rows, strict=True)
        if not pair.equal and not pair.overlong
    ]
    order = np.random.default_rng(0).permutation(len(kept))
    return [kept[i] for i in order]


def new_model(size: pairs.Size, dtype: torch.dtype = torch.float32) -> Any:
    """Return a reward model with random weights."""
    from transformers import LlamaConfig, LlamaForSequenceClassification

    tokenizer = words()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.hidden,
        intermediate_size=size.intermediate,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.kv_heads or size.heads,
        max_position_embeddings=16384,
        num_labels=1,
        problem_type="regression",
        pad_token_id=tokenizer.pad_token_id,
        use_cache=False,
    )
    with torch.device(device()):
        return LlamaForSequenceClassification(config).to(dtype)


def train(size: pairs.Size, rows: list[Any]) -> dict[str, Any]:
    """Train on all pairs once, by each contender in turn, in bf16."""
    found = [pair for pair, _ in rows]
    ours = Dataset.from_dict(pairs.split(found))
    theirs = Dataset.from_dict(pairs.whole(found))
    grouped = {**training.CONTENDERS["trl_grouped"][1], "bf16": True}
    whole = {"per_device_train_batch_size": pairs.BATCH_SIZE}
    half = {
        "per_device_train_batch_size": pairs.BATCH_SIZE // 2,
        "gradient_accumulation_steps": 2,
    }
    ways: dict[str, Callable[[], Any]] = {
        "ours": lambda: training.ours(
            new_model(size), 0, ours, words(), tokens=TOKENS, **_on_gpu(max_steps=steps)
        ),
        "trl": lambda: _theirs(size, theirs, **half),
        "trl_grouped": lambda: _theirs(size, theirs, **grouped, **whole),
        "trl_grouped_liger": lambda: _theirs(
            size, theirs, **grouped, **whole, use_liger_kernel=True
        ),
    }
    steps = len(rows) // pairs.BATCH_SIZE
    figures: dict[str, Any] = {name: [] for name in ways}
    for turn in range(1 + ROUNDS):  # the first one warms up
        for name, make in ways.items():
            try:
                figure = _run(make, len(rows))
            except Exception as error:  # a contender that this machine cannot run
                figures[name] = repr(error)[:300]
                continue
            if turn:
                figures[name].append(figure)
    return _summary(figures) | {
        "share of the matrix rate": _share(size, found, figures)
    }


def _on_gpu(**changes: Any) -> dict[str, Any]:
    gpu = torch.cuda.is_available()
    return {"bf16": True, "use_cpu": not gpu, "learning_rate": 1e-5, **changes}


def _theirs(size: pairs.Size, rows: Any, **changes: Any) -> Any:
    return training.theirs(new_model(size), 0, rows, words(), **_on_gpu(**changes))


def _run(make: Callable[[], Any], count: int) -> dict[str, float]:
    trainer = make()
    _reset()
    start = time.perf_counter()
    trainer.train()
    _wait()
    seconds = time.perf_counter() - start
    peak = _peak()
    del trainer
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return {"pairs_per_second": count / seconds, "peak_mib": peak}


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _reset() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()


def _peak() -> float:
    if not torch.cuda.is_available():
        return 0.0
    return torch.cuda.max_memory_allocated() / 2**20


def _summary(figures: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, each in figures.items():
        if isinstance(each, str):
            found[name] = each
            continue
        found[name] = {
            key: [round(figure[key], 2) for figure in each] for key in each[0]
        }
        ratios = [
            mine["pairs_per_second"] / other["pairs_per_second"]
            for mine, other in zip(figures["ours"], each, strict=True)
        ]
        found[name]["ours_over_it"] = round(median(ratios), 3)
    return found


def _share(size: pairs.Size, rows: list[Any], figures: dict[str, Any]) -> float:
    """Return the share of the rate of a plain bf16 product that training reached."""
    sizes = [(len(row.prompt), len(row.a), len(row.b)) for row in rows]
    seen = sum(seen_packed(*each) for each in sizes)
    needed = training_flops(size, int(np.sum(sizes)), seen) / len(rows)
    side = 8192 if torch.cuda.is_available() else 256
    a, b = (
        torch.randn(side, side, device=device(), dtype=torch.bfloat16) for _ in "ab"
    )
    torch.mm(a, b)
    _wait()
    start = time.perf_counter()
    for _ in range(20):
        torch.mm(a, b)
    _wait()
    rate = 20 * 2 * side**3 / (time.perf_counter() - start)
    speed = median(figure["pairs_per_second"] for figure in figures["ours"])
    return round(speed * needed / rate, 3)


def label(size: pairs.Size, rows: list[Any]) -> dict[str, Any]:
    """Label all pairs, from text on, by each contender in turn, in bf16."""
    from ser_kedro.models import pack

    tokenizer = words()
    given = [row for _, row in rows]
    whole = labelling.texts_of(given, tokenizer)
    scorer = labelling.scorer_of(new_model(size).eval(), tokenizer, TOKENS * 4, "bf16")
    half = new_model(size, torch.bfloat16).eval()

    @torch.inference_mode()
    def by_length() -> None:
        ids = tokenizer(whole)["input_ids"]
        for batch in pack.cut([len(row) for row in ids], TOKENS * 4):
            inputs = tokenizer.pad(
                {"input_ids": [ids[i] for i in batch]}, return_tensors="pt"
            )
            half(**inputs.to(half.device), use_cache=False).logits.float().cpu()

    ways: dict[str, Callable[[], Any]] = {
        "ours": lambda: labelling.label_ours(scorer, given),
        "pipeline": lambda: labelling.label_pipeline(half, whole, tokenizer),
        "sorted": by_length,
    }
    figures: dict[str, Any] = {name: [] for name in ways}
    for turn in range(1 + ROUNDS):
        for name, work in ways.items():
            _reset()
            start = time.perf_counter()
            work()
            _wait()
            speed = len(rows) / (time.perf_counter() - start)
            if turn:
                figures[name].append({"pairs_per_second": speed, "peak_mib": _peak()})
    return _summary(figures)


def attention(size: pairs.Size, length: int) -> dict[str, Any]:
    """Time a training step of packed rows by SDPA with a mask and by FlexAttention.

    A row is a prompt of a third of the length and two responses of a third.
    """
    from ser_kedro.models import packed_rows

    numbers = np.random.default_rng(0)
    model = new_model(size).train()
    third = length // 3
    rows = [
        packed_rows.Row(
            numbers.integers(5, 8000, third).tolist(),
            [numbers.integers(5, 8000, third).tolist() for _ in "ab"],
        )
        for _ in range(max(1, 16384 // length))
    ]
    inputs = packed_rows.collate(rows, 0, packed=True)
    inputs = {name: value.to(device()) for name, value in inputs.items()}
    ends = inputs.pop("ends")
    segments = inputs.pop("segments")
    sdpa = packed_rows._mask(segments, "sdpa", model.dtype)
    found: dict[str, Any] = {}
    for kind, mask in (("sdpa", sdpa), ("flex_attention", None)):
        try:
            model.set_attn_implementation(kind)
            _reset()
            seconds = list(
                _steps(model, inputs, ends, mask if mask is not None else segments)
            )
        except Exception as error:
            found[kind] = repr(error)[:300]
            continue
        found[kind] = {
            "first step, s": round(seconds[0], 2),
            "step, s": round(median(seconds[2:]), 4),
            "peak_mib": round(_peak()),
        }
    return found


def _steps(model: Any, inputs: Any, ends: Any, mask: Any) -> Iterator[float]:
    for _ in range(6):
        start = time.perf_counter()
        given = mask if mask.dtype == torch.bool else _flex(mask)
        with torch.autocast(device(), torch.bfloat16):
            states = model.model(**inputs, attention_mask=given).last_hidden_state
        model.score(states.flatten(0, 1)[ends].float()).sum().backward()
        model.zero_grad(set_to_none=True)
        _wait()
        yield time.perf_counter() - start


def _flex(segments: torch.Tensor) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    def visible(b: Any, h: Any, query: Any, key: Any) -> Any:
        seen = segments[b, key]
        return (key <= query) & ((seen == 0) | (seen == segments[b, query]))

    rows, length = segments.shape
    return create_block_mask(visible, rows, None, length, length, device=device())


if __name__ == "__main__":
    main()
