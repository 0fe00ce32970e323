"""Score pairs: stream a table through a reward model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pyarrow as pa
from pydantic import Field

from ser_kedro.launch.job import Job, Output
from ser_kedro.launch.reference import Reference
from ser_kedro.launch.table import read_table, reorder, write_table
from ser_kedro.reward.quiet import quiet

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from ser_kedro.reward.encode import EncodedPair, Encoder

# Pairs that are encoded and sorted by length together.
WINDOW = 2048

SCORES = pa.schema(
    [
        ("row", pa.int64()),
        ("pair_id", pa.string()),
        ("reward_a", pa.float32()),
        ("reward_b", pa.float32()),
    ]
)
_RESPONSES = (("response_a", "response_b"), ("chosen", "rejected"))


class ScoreJob(Job):
    """Rewards of both responses of each pair of a table.

    Attributes:
        model: A reward model.
        pairs: A table of pairs; ``a`` is its ``response_a`` or ``chosen``.
        rows: A table whose column ``row`` names the rows to score; ``None``: all.
        max_length: As the model was trained with.
        score_tokens: Padded tokens of one batch.
    """

    stage: ClassVar[str] = "scores"
    libraries: ClassVar[tuple[str, ...]] = (
        "torch",
        "transformers",
        "tokenizers",
        "trl",
    )

    model: Reference
    pairs: Reference
    rows: Reference | None = None
    max_length: int = Field(ge=8)
    score_tokens: int = Field(ge=8)

    @quiet()
    def work(self, workspace: Path) -> dict[str, Output]:
        """Write ``scores``: row, pair_id, reward_a, reward_b."""
        import torch

        from ser_kedro.reward.encode import Encoder
        from ser_kedro.reward.model import load_reward_model

        table = read_table(self.pairs)
        if self.rows is None:
            rows: Sequence[int] = range(table.num_rows)
        else:
            rows = read_table(self.rows)["row"].to_numpy()
        model, tokenizer = load_reward_model(self.model.location, seed=0)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        model.to(device)  # type: ignore[arg-type]
        encoder = Encoder(tokenizer, self.max_length)
        batches = score_table(model, encoder, table, rows, self.score_tokens)
        return {"scores": write_table(workspace, "scores", batches, SCORES)}


def score_table(
    model: PreTrainedModel,
    encoder: Encoder,
    table: pa.Table,
    rows: Sequence[int],
    score_tokens: int,
) -> Iterator[pa.RecordBatch]:
    """Yield the rewards of the rows of a table, in their order, a window at a time.

    Args:
        model: A reward model in evaluation mode.
        encoder: Its encoder.
        table: Pairs, memory-mapped.
        rows: Row numbers.
        score_tokens: Padded tokens of one batch.
    """
    from tqdm import tqdm

    names = next(pair for pair in _RESPONSES if pair[0] in table.column_names)
    pad = encoder.tokenizer.pad_token_id
    done = 0
    bar = tqdm(total=len(rows), desc="scoring", unit="pair", disable=None)
    with bar:
        for batch in reorder(table, rows, WINDOW):
            columns = batch.select(["prompt", *names]).to_pydict()
            pairs = encoder.pairs(
                columns["prompt"], columns[names[0]], columns[names[1]]
            )
            rewards = score_encoded(model, pairs, pad, score_tokens)
            numbers = pa.array(rows[done : done + len(pairs)], pa.int64())
            columns_out = [
                numbers,
                batch["pair_id"],
                pa.array([a for a, _ in rewards], pa.float32()),
                pa.array([b for _, b in rewards], pa.float32()),
            ]
            yield pa.RecordBatch.from_arrays(columns_out, schema=SCORES)
            done += len(pairs)
            bar.update(len(pairs))


def score_encoded(
    model: PreTrainedModel,
    pairs: Sequence[EncodedPair],
    pad_token_id: int,
    score_tokens: int = 16384,
) -> list[tuple[float, float]]:
    """Return the rewards of both responses of encoded pairs, in their order.

    Rows of like length share a batch, so little is spent on padding.
    """
    import torch
    from trl.trainer.utils import pad

    rows = [pair.prompt + ids for pair in pairs for ids in (pair.a, pair.b)]
    rewards = [0.0] * len(rows)
    with torch.inference_mode():
        for group in _by_length(rows, score_tokens):
            ids = [torch.tensor(rows[i]) for i in group]
            inputs = pad(ids, padding_value=pad_token_id, padding_side="right")
            masks = [torch.ones_like(row) for row in ids]
            mask = pad(masks, padding_value=0, padding_side="right")
            logits = model(
                input_ids=inputs.to(model.device), attention_mask=mask.to(model.device)
            ).logits
            for i, reward in zip(group, logits.squeeze(-1).tolist(), strict=True):
                rewards[i] = reward
    return list(zip(rewards[0::2], rewards[1::2], strict=True))


def _by_length(rows: Sequence[Sequence[int]], tokens: int) -> Iterable[list[int]]:
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    group: list[int] = []
    for i in order:
        # Rows come shortest first: the newest is what all are padded to.
        if group and len(rows[i]) * (len(group) + 1) > tokens:
            yield group
            group = []
        group.append(i)
    if group:
        yield group
