"""Answers of a language model to prompts that nothing was trained on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, TypedDict

import numpy as np
import pyarrow as pa

from ser_kedro.models.log_filters import quiet
from ser_kedro.policy.ppo_params import PpoParams
from ser_kedro.preferences.schema import PROMPT
from ser_kedro.store.job import Job
from ser_kedro.store.references import ModelRef, TableRef
from ser_kedro.store.tables import read_table, reorder, write_table

ANSWERS = pa.schema(
    [
        ("group", pa.string()),
        ("prompt", PROMPT),
        ("response", pa.string()),
        ("tokens", pa.int64()),
        ("ended", pa.bool_()),
        ("kl", pa.float64()),
    ]
)


class AnswerOutputs(TypedDict):
    """A table of ``ANSWERS``."""

    answers: TableRef


class AnswersJob(Job[AnswerOutputs]):
    """Let a policy answer prompts, one of each group.

    The same seed draws the same prompts, and the same random numbers for each policy.

    Attributes:
        model: The policy, a whole language model.
        start: The model that it was trained from; ``kl`` is the distance to it.
        prompts: A table with columns ``group`` and ``prompt``.
        count: Prompts, at most.
        batch_size: Answers that are written at once.
        params: How to sample.
        seed: Draws prompts and answers.
    """

    stage: ClassVar[str] = "answers"
    libraries: ClassVar[tuple[str, ...]] = ("torch", "transformers", "tokenizers")

    model: ModelRef
    start: ModelRef
    prompts: TableRef
    count: int
    batch_size: int
    params: PpoParams
    seed: int

    @quiet()
    def work(self, workspace: Path) -> AnswerOutputs:
        """Write ``answers``; ``kl`` is in nats along each answer."""
        batches = self._answer()
        return {"answers": write_table(workspace, "answers", batches, ANSWERS)}

    def _answer(self) -> Iterator[pa.RecordBatch]:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from ser_kedro.models.encode import Encoder
        from ser_kedro.models.reward_model import from_pretrained
        from ser_kedro.policy.actor_critic import ActorCritic, precision
        from ser_kedro.policy.batch import collate
        from ser_kedro.policy.generate import ends_of, sample

        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        dtype = precision(self.params)
        policy, start = (
            from_pretrained(AutoModelForCausalLM, place, dtype=dtype).eval().to(device)
            for place in (self.model.location, self.start.location)
        )
        actor = ActorCritic(policy, start).eval()
        tokenizer = from_pretrained(AutoTokenizer, self.model.location)
        encoder = Encoder(tokenizer, self.params.max_prompt_length)
        eos, pad = ends_of(policy, tokenizer), int(tokenizer.pad_token_id or 0)
        torch.manual_seed(self.seed)
        table = read_table(self.prompts).select(["group", "prompt"])
        for rows in reorder(table, self._places(table), self.batch_size):
            ids = [encoder.prompt_ids(prompt) for prompt in rows["prompt"].to_pylist()]
            empty = collate(ids, [[]] * len(ids), pad, device)
            answers = sample(policy, empty, self.params, eos, pad)
            kl = actor.kl(collate(ids, answers, pad, device), self.params.temperature)
            texts = tokenizer.batch_decode(answers, skip_special_tokens=True)
            columns: list[Any] = [
                rows["group"],
                rows["prompt"],
                [text.strip() for text in texts],
                [len(answer) for answer in answers],
                [answer[-1] in eos for answer in answers],
                kl.sum(1).tolist(),
            ]
            yield pa.RecordBatch.from_arrays(
                [
                    column
                    if isinstance(column, pa.Array)
                    else pa.array(column, field.type)
                    for column, field in zip(columns, ANSWERS, strict=True)
                ],
                schema=ANSWERS,
            )

    def _places(self, table: pa.Table) -> list[int]:
        """Return row numbers: some groups, at random, each with its first row."""
        _, first = np.unique(table["group"].to_pylist(), return_index=True)
        drawn = np.random.default_rng(self.seed).permutation(first)
        return [int(place) for place in drawn[: self.count]]
