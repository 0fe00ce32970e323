"""What packing and what sharing the prompt give alone: the ladder, step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import smollm2_pairs as smollm2
from benchmarks.child import arguments, clock, hand_back
from benchmarks.common import Figures, Result, take_turns
from benchmarks.training import MICROBATCH_TOKENS

if TYPE_CHECKING:
    from torch import Tensor

    from ser_kedro.models.encode import EncodedPair

# Pairs of a turn, and of a pass of random batches: TRL's default.
TURN = 8


@dataclass(frozen=True)
class Way:
    """A way to compute a batch.

    Attributes:
        name: For the page.
        costs: Tokens of a pair, by which passes are cut; ``None``: in the data's order.
        rewards: Gives the rewards of some pairs, two each, and the tokens computed.
    """

    name: str
    costs: Callable[[np.ndarray], np.ndarray] | None
    rewards: Callable[[Any, Sequence[EncodedPair]], tuple[Tensor, int]]


def padded(model: Any, rows: Sequence[EncodedPair]) -> tuple[Tensor, int]:
    """Read each response behind its own prompt, in a row of its own."""
    return _collated(model, [(r.prompt, [r.a, r.b]) for r in rows], packed=False)


def packed_alone(model: Any, rows: Sequence[EncodedPair]) -> tuple[Tensor, int]:
    """Read the two whole rows of a pair in one row, hidden from each other."""
    whole = [([], [r.prompt + r.a, r.prompt + r.b]) for r in rows]
    return _collated(model, whole, packed=True)


def packed_and_shared(model: Any, rows: Sequence[EncodedPair]) -> tuple[Tensor, int]:
    """Read both responses of a pair behind one copy of the prompt, in one row."""
    return _collated(model, [(r.prompt, [r.a, r.b]) for r in rows], packed=True)


def _collated(model: Any, rows: Any, *, packed: bool) -> tuple[Tensor, int]:
    from ser_kedro.models import pack

    given = [pack.Row(*row) for row in rows]
    inputs = pack.collate(given, model.config.pad_token_id, packed=packed)
    rewards = model(**inputs, use_cache=False).logits
    return rewards.float().view(-1, 2), inputs["input_ids"].numel()


def shared_alone(model: Any, rows: Sequence[EncodedPair]) -> tuple[Tensor, int]:
    """Read prompts once, then each response in a row of its own over their keys."""
    import torch
    from torch.nn.utils.rnn import pad_sequence
    from transformers import DynamicCache

    def padded_ids(ids: list[list[int]]) -> tuple[Tensor, Tensor]:
        flat = [torch.tensor(row) for row in ids]
        sizes = torch.tensor([len(row) for row in ids])
        return pad_sequence(flat, True, model.config.pad_token_id), sizes

    prompts, starts = padded_ids([r.prompt for r in rows])
    tails, sizes = padded_ids([tail for r in rows for tail in (r.a, r.b)])
    seen = torch.arange(prompts.shape[1]) < starts[:, None]
    cache = DynamicCache(config=model.config)
    model.model(prompts, attention_mask=seen.long(), past_key_values=cache)
    cache.batch_repeat_interleave(2)
    starts, seen = starts.repeat_interleave(2), seen.repeat_interleave(2, 0)
    steps = torch.arange(tails.shape[1])
    states = model.model(
        tails,
        attention_mask=torch.cat([seen, steps < sizes[:, None]], 1).long(),
        position_ids=starts[:, None] + steps,
        past_key_values=cache,
    ).last_hidden_state
    last = states[torch.arange(len(tails)), sizes - 1]
    return model.score(last).float().view(-1, 2), prompts.numel() + tails.numel()


def _whole(sizes: np.ndarray) -> np.ndarray:
    costs: np.ndarray = 2 * (sizes[:, 0] + sizes[:, 1:].max(1))
    return costs


def _apart(sizes: np.ndarray) -> np.ndarray:
    costs: np.ndarray = sizes[:, 0] + 2 * sizes[:, 1:].max(1)
    return costs


WAYS = (
    Way("padded, random (TRL's default)", None, padded),
    Way("grouped by length", _whole, padded),
    Way(
        "packed, not shared",
        lambda sizes: 2 * sizes[:, 0] + sizes[:, 1] + sizes[:, 2],
        packed_alone,
    ),
    Way("shared, not packed", _apart, shared_alone),
    Way("shared and packed (ours)", lambda sizes: sizes.sum(1), packed_and_shared),
)


def draw(seed: int) -> list[EncodedPair]:
    """Return every second pair of a repetition of training."""
    everything = smollm2.everything()
    return [everything[i] for i in smollm2.drawn(seed)[::2]]


def turns(way: Way, rows: Sequence[EncodedPair]) -> Iterator[list[list[EncodedPair]]]:
    """Yield the turns of a way: lists of passes, which are lists of pairs."""
    from ser_kedro.models import pack

    sizes = smollm2.lengths(rows)
    order = np.argsort(sizes.sum(1), kind="stable")
    if way.costs is None:
        order = np.random.default_rng(0).permutation(len(rows))
    for turn in order.reshape(-1, TURN):
        passes = [turn]
        if way.costs is not None:
            costs = way.costs(sizes[turn]).tolist()
            passes = [turn[cut] for cut in pack.cut(costs, MICROBATCH_TOKENS)]
        yield [[rows[i] for i in each] for each in passes]


def measure() -> Result:
    """Climb the ladder in both precisions."""
    smollm2.prepare()
    figures = take_turns("benchmarks.smollm2_ladder", smollm2.PRECISIONS)
    return Result(
        [], _text(figures), title=f"Packing and sharing apart, {smollm2.NAME}"
    )


def _text(figures: dict[str, list[Figures]]) -> str:
    def mean(kind: str, name: str, what: str) -> float:
        return float(np.mean([row[name][what] for row in figures[kind]]))

    lines = []
    for way in WAYS:
        cells = [f"{mean('fp32', way.name, 'tokens'):.0f}"]
        for kind in smollm2.PRECISIONS:
            speed = mean(kind, way.name, "pairs_per_second")
            first = mean(kind, WAYS[0].name, "pairs_per_second")
            cells += [f"{speed:.3f}", f"{speed / first:.2f}"]
        lines.append(f"| {way.name} | {' | '.join(cells)} |")
    gaps = ", ".join(
        f"{max(row[way.name]['gap'] for row in figures[kind] for way in WAYS):.1e} in"
        f" {kind}"
        for kind in smollm2.PRECISIONS
    )
    return f"""\
Forward and backward passes alone, without an optimiser, of every second pair that
section "Training {smollm2.NAME}" trains on ({smollm2.PAIRS // 2} pairs; repetitions:
{len(figures["fp32"])}); the ways take turns of {TURN} pairs in one process. Random
batches are read {TURN} pairs at once; the others are sorted by length, and the pairs of
a turn cut into passes of at most {MICROBATCH_TOKENS} tokens, as our trainer does.
"Times" is the speed over that of the first line. These pairs lack the longest, as said
there, so among all pairs random batches cost more.

| way | tokens a pair | fp32, pairs/s | times | bf16, pairs/s | times |
|---|---|---|---|---|---|
{chr(10).join(lines)}

"Packed, not shared" puts the two whole rows of a pair into one, with positions of their
own and a mask that hides them from each other. "Shared, not packed" reads the prompts
of a pass with a cache and then each response as a row over its prompt's keys and
values, which gradients pass through. All ways give the same rewards
up to rounding: the largest difference from the first line's is {gaps}."""


def main() -> None:
    """Let the ways take turns."""
    import torch
    from torch.nn.functional import logsigmoid

    from ser_kedro.models import pack

    given = arguments()
    rows = draw(given.seed)
    model = smollm2.new_model()
    packing = pack.enable(model)
    assert packing.exact, packing
    model.train()
    found: dict[str, dict[str, float]] = {
        way.name: {"seconds": 0.0, "tokens": 0.0} for way in WAYS
    }
    rewards: dict[str, dict[int, Tensor]] = {way.name: {} for way in WAYS}
    for turn in zip(*(turns(way, rows) for way in WAYS), strict=True):
        for way, passes in zip(WAYS, turn, strict=True):
            start = clock()
            for each in passes:
                with torch.autocast(
                    "cpu", torch.bfloat16, enabled=given.contender == "bf16"
                ):
                    both, tokens = way.rewards(model, each)
                (-logsigmoid(both[:, 0] - both[:, 1]).mean()).backward()
                found[way.name]["tokens"] += tokens / len(rows)
                found_rewards = zip(map(id, each), both.detach(), strict=True)
                rewards[way.name].update(found_rewards)
            found[way.name]["seconds"] += clock() - start
            model.zero_grad()
    first = rewards[WAYS[0].name]
    for name, values in rewards.items():
        gaps = [float((values[key] - first[key]).abs().max()) for key in first]
        found[name]["gap"] = max(gaps)
        found[name]["pairs_per_second"] = len(rows) / found[name].pop("seconds")
    hand_back(dict(found))


if __name__ == "__main__":
    main()
