"""PPO: our trainer against the last ``PPOTrainer`` that TRL shipped."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import pairs
from benchmarks.child import arguments, hand_back, stopwatch, watch_memory
from benchmarks.common import Result, column, compared, take_turns
from ser_kedro.models.heap import keep_freed_memory

TRL = "1.12.0"
FOLDER = pairs.BUILD / f"trl-{TRL}"
SIZE = pairs.Size(layers=10, hidden=640, intermediate=1720, heads=10)
MODELS = pairs.BUILD / "ppo"
ROLLOUTS = 2
BATCH, MINI_BATCH, EPOCHS = 8, 4, 4
PROMPT, ANSWER = 64, 32
LORA = {"r": 16, "alpha": 32, "dropout": 0.0, "target_modules": "all-linear"}
LEARNING_RATE = 1e-5
# Ends the name of a contender that keeps freed memory as ours does.
_HEAP = "-heap"
_NOTES = {
    "lora": f"LoRA: r {LORA['r']} on all linear layers of both policies. TRL's trainer"
    " takes adapters for its policy alone: its value model is a second network, all of"
    " which is trained; ours is a head on the policy's states.",
    "full": "All weights of both policies are trained, and both keep a frozen copy as"
    " reference. TRL's value model is a third network; ours is a head on the policy's"
    " states.",
}


def measure() -> Result:
    """Compare both with adapters."""
    return compare("lora", "LoRA")


def compare(kind: str, what: str) -> Result:
    """Let the contenders take turns.

    Args:
        kind: ``lora`` or ``full``.
        what: The same for the page.
    """
    _install()
    millions = _make_models() / 1e6
    names = f"ours_{kind}", f"trl_{kind}", f"trl{_HEAP}_{kind}"
    paths = dict.fromkeys(names[1:], str(FOLDER))
    figures = take_turns("benchmarks.ppo", names, paths=paths)
    contender = f"TRL {TRL} PPOTrainer, {what}"
    *speeds, alike = (column(figures[name], "samples_per_second") for name in names)
    peaks = (column(figures[name], "peak") for name in names[:2])
    same = compared("", "", "", speeds[0], alike, ">= 1")
    return Result(
        [
            compared(f"PPO speed, {what}", contender, "samples/s", *speeds, ">= 1.5"),
            compared(
                f"PPO peak anonymous memory, {what}",
                contender,
                "MiB",
                *peaks,
                "<= 0.6",
            ),
        ],
        f"Repetitions: {len(figures[names[0]])}. A random Llama of {millions:.1f} "
        f"million parameters as policy and as reward model; {ROLLOUTS} rollouts of "
        f"{BATCH} prompts (at most {PROMPT} tokens of HH-RLHF) with {ANSWER} new "
        f"tokens, {EPOCHS} PPO epochs of mini-batches of {MINI_BATCH}, AdamW, "
        "fp32, no gradient checkpointing, same learning rate, clipping and GAE. "
        f"{_NOTES[kind]} A sample is a prompt with its answer. TRL {TRL} (from its "
        "wheel, in a folder of its own) runs on the same torch, transformers, "
        "peft and accelerate as ours. Ours tells the C library to keep freed memory "
        "(`models/heap.py`); TRL runs as it comes. With that setting TRL reaches "
        f"{median(alike):.3g} samples/s, and the ratio is {same.ratio:.3g} "
        f"({same.low:.3g} to {same.high:.3g}).",
    )


def _install() -> None:
    if FOLDER.is_dir():
        return
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    partial = FOLDER.with_suffix(".partial")
    subprocess.run([*pip, "--target", str(partial), f"trl=={TRL}"], check=True)
    partial.rename(FOLDER)


def _make_models() -> int:
    """Save policy and reward model; return the number of the policy's weights."""
    import torch
    from transformers import LlamaForCausalLM

    shutil.rmtree(MODELS, ignore_errors=True)
    torch.manual_seed(0)
    policy = LlamaForCausalLM(pairs.llama_config(SIZE, tie_word_embeddings=True))
    for name, model in (("policy", policy), ("reward", pairs.new_model(1, SIZE))):
        model.save_pretrained(MODELS / name)
        pairs.tokenizer().save_pretrained(MODELS / name)
    return int(policy.num_parameters())


def dialogues(seed: int) -> list[Any]:
    """Return the prompts of all rollouts."""
    import numpy as np

    rows = json.loads((pairs.BUILD / "train.json").read_text("utf-8"))
    chosen = np.random.default_rng(seed).permutation(len(rows))[: BATCH * ROLLOUTS]
    return [rows[i][0] for i in chosen]


def ours(seed: int, lora: bool) -> Any:
    """Return what runs our PPO."""
    import torch

    from ser_kedro.models.encode import Encoder
    from ser_kedro.models.params import Scoring
    from ser_kedro.models.scorer import Scorer
    from ser_kedro.policy.actor_critic import ActorCritic
    from ser_kedro.policy.ppo import Ppo
    from ser_kedro.policy.ppo_params import PpoParams

    params = PpoParams(
        steps=ROLLOUTS,
        batch_size=BATCH,
        mini_batch_size=MINI_BATCH,
        ppo_epochs=EPOCHS,
        learning_rate=LEARNING_RATE,
        optimizer="adamw",
        precision="fp32",
        reward="raw",
        max_prompt_length=PROMPT,
        max_new_tokens=ANSWER,
        lora=LORA if lora else None,
        eval_prompts=0,
    )
    torch.manual_seed(seed)
    folder = pairs.BUILD / "ppo_run"
    shutil.rmtree(folder, ignore_errors=True)
    length = PROMPT + ANSWER
    scoring = Scoring(max_length=length, score_tokens=4096, precision="fp32")
    scorer = Scorer.load(MODELS / "reward", scoring)
    return Ppo(
        ActorCritic.load(MODELS / "policy", params),
        Encoder(pairs.tokenizer(), PROMPT + ANSWER),
        dialogues(seed),
        scorer.text_rewards,
        params,
        folder=folder,
        seed=seed,
    ).run


def theirs(seed: int, lora: bool) -> Any:
    """Return what runs TRL's PPO."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
    )
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    from ser_kedro.models.encode import Encoder

    encoder = Encoder(pairs.tokenizer(), PROMPT)
    prompts = [encoder.prompt_ids(prompt) for prompt in dialogues(seed)]
    encoder.tokenizer.padding_side = "left"
    rows = Dataset.from_dict({"input_ids": prompts})
    config = PPOConfig(
        output_dir=str(pairs.BUILD / "output"),
        total_episodes=BATCH * ROLLOUTS,
        per_device_train_batch_size=BATCH,
        gradient_accumulation_steps=1,
        num_mini_batches=BATCH // MINI_BATCH,
        num_ppo_epochs=EPOCHS,
        local_rollout_forward_batch_size=BATCH,
        num_sample_generations=0,
        response_length=ANSWER,
        stop_token="eos",
        missing_eos_penalty=1.0,
        temperature=1.0,
        kl_coef=0.2,
        learning_rate=LEARNING_RATE,
        bf16=False,
        gradient_checkpointing=False,
        use_cpu=True,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=seed,
    )
    adapters = LoraConfig(
        r=LORA["r"],
        lora_alpha=LORA["alpha"],
        lora_dropout=LORA["dropout"],
        target_modules=LORA["target_modules"],
        task_type="CAUSAL_LM",
    )
    score = AutoModelForSequenceClassification.from_pretrained
    return PPOTrainer(
        args=config,
        processing_class=encoder.tokenizer,
        model=AutoModelForCausalLM.from_pretrained(MODELS / "policy"),
        ref_model=None,
        reward_model=score(MODELS / "reward"),
        value_model=score(MODELS / "reward"),
        train_dataset=rows,
        eval_dataset=rows,
        peft_config=adapters if lora else None,
    ).train


def main() -> None:
    """Take some rollouts and learn from them."""
    given = arguments()
    name, kind = given.contender.split("_")
    if name.endswith(_HEAP):
        keep_freed_memory()
        name = name.removesuffix(_HEAP)
    _import(name)
    make = {"ours": ours, "trl": theirs}[name]
    with watch_memory() as peak:
        run = make(given.seed, kind == "lora")
        with stopwatch() as watch:
            run()
    speed = BATCH * ROLLOUTS / watch["seconds"]
    hand_back({"samples_per_second": speed, "peak": peak.above})


def _import(name: str) -> None:
    import peft  # noqa: F401
    import trl

    if name == "ours":
        pass
    else:
        import trl.experimental.ppo

        assert Path(trl.__file__).is_relative_to(FOLDER), trl.__file__


if __name__ == "__main__":
    main()
