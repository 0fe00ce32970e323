"""Which pair goes where: decided by prompt, and never by which answer was preferred."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ser_kedro.errors import DataError
from ser_kedro.preferences.groups import group_prompts, normalize

Part = Literal["test", "sft", "labeled", "validation", "unlabeled", "ppo"]
PARTS: tuple[Part, ...] = get_args(Part)
IN_TEST_SET = -1

Share = Annotated[float, Field(gt=0, lt=1)]


class SplitParams(BaseModel):
    """How preference data is divided; the shares are those of the paper.

    Attributes:
        sft_share: Share of the training pairs for supervised fine-tuning.
        rm_share: Share for the reward model, labelled or not.
        ppo_share: Share whose prompts are for reinforcement learning. The three
            shares must sum to 1.
        labeled_share: Share of the reward model's pairs that keep their human label.
        validation_share: Share of these that is held out to judge the loops.
        test_share: Share of all pairs for the test, where no test set is given.
        near_copy_threshold: Jaccard similarity from which on two prompts must not be
            on two sides; see ``groups.group_prompts``.
        max_bad_rows: Largest share of rows that may be unreadable.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sft_share: Share = 0.30
    rm_share: Share = 0.65
    ppo_share: Share = 0.05
    labeled_share: Share = 0.15
    validation_share: Share = 0.4
    test_share: Share = 0.1
    near_copy_threshold: float = Field(default=0.8, gt=0, le=1)
    max_bad_rows: float = Field(default=0.02, ge=0, le=1)

    @model_validator(mode="after")
    def _check_sum(self) -> Self:
        total = self.sft_share + self.rm_share + self.ppo_share
        if abs(total - 1) > 1e-6:
            raise ValueError(f"sft_share + rm_share + ppo_share = {total:g}: must be 1")
        return self


@dataclass(frozen=True)
class Assignment:
    """Where every row goes.

    Attributes:
        parts: Number in ``PARTS`` of every training row, or ``IN_TEST_SET``; int8 of
            shape ``(rows,)``.
        groups: Name of every training row's prompt group, of length ``rows``.
        test_groups: The same of the rows of a given test set.
        distinct_prompts: Number of different prompts, exact copies counted once.
        prompt_groups: Number of groups of these; fewer where there are near copies.
    """

    parts: NDArray[np.int8]
    groups: list[str]
    test_groups: list[str]
    distinct_prompts: int
    prompt_groups: int

    def rows(self, part: Part) -> NDArray[np.int64]:
        """Return the numbers of the training rows of one part, in file order."""
        return np.flatnonzero(self.parts == PARTS.index(part)).astype(np.int64)


def assign(
    keys: Sequence[str],
    *,
    params: SplitParams,
    seed: int,
    test_keys: Sequence[str] | None = None,
) -> Assignment:
    """Give every training row a part, by the group of its prompt.

    The groups are put in an order that depends on their text and the seed alone, and
    the parts are filled one after the other, so that each comes as close to its share
    of the rows as the groups allow. Neither the order of the rows nor which answer was
    preferred can matter.

    Args:
        keys: The key of every training row's prompt (``schema.prompt_key``).
        params: The shares.
        seed: Of the order of the groups.
        test_keys: The same of a given test set. Training rows that share a group with
            one of them are out (``IN_TEST_SET``), and no row is assigned to ``test``.

    Returns:
        The part and the group of every row.
    """
    everything = [*keys, *(test_keys or ())]
    numbers = group_prompts(everything, params.near_copy_threshold)
    texts = [normalize(key) for key in everything]
    names = _group_names(numbers, texts)
    mine, theirs = numbers[: len(keys)], numbers[len(keys) :]
    in_test = np.isin(mine, theirs)
    sizes = np.bincount(mine[~in_test], minlength=len(names))
    order = np.argsort([keyed_hash(seed, "group", name) for name in names])
    part_of_group = np.empty(len(names), np.int8)
    part_of_group[order] = _fill(sizes[order], params, with_test=test_keys is None)
    parts = np.where(in_test, np.int8(IN_TEST_SET), part_of_group[mine])
    return Assignment(
        parts=parts.astype(np.int8),
        groups=[names[number] for number in mine],
        test_groups=[names[number] for number in theirs],
        distinct_prompts=len(set(texts)),
        prompt_groups=len(names),
    )


def _group_names(numbers: NDArray[np.int64], texts: list[str]) -> list[str]:
    # A group is named after its smallest prompt, whatever the order of the rows.
    smallest: dict[int, str] = {}
    for number, text in zip(numbers.tolist(), texts, strict=True):
        smallest[number] = min(text, smallest.get(number, text))
    ordered = [smallest[number] for number in range(len(smallest))]
    return [hashlib.sha256(text.encode()).hexdigest()[:32] for text in ordered]


def _fill(
    sizes: NDArray[np.int64], params: SplitParams, *, with_test: bool
) -> NDArray[np.int8]:
    """Return the part of each group, of the given sizes, in order."""
    labels = params.rm_share * params.labeled_share
    shares: dict[Part, float] = {
        "sft": params.sft_share,
        "labeled": labels * (1 - params.validation_share),
        "validation": labels * params.validation_share,
        "unlabeled": params.rm_share * (1 - params.labeled_share),
        "ppo": params.ppo_share,
    }
    test = params.test_share if with_test else 0.0
    widths = [test, *(share * (1 - test) for share in shares.values())]
    ends = np.cumsum(widths)[:-1]
    # A group lies where its middle lies.
    middles = (np.cumsum(sizes) - sizes / 2) / max(1, sizes.sum())
    return np.asarray(np.searchsorted(ends, middles, side="right"), np.int8)


def check_enough(sizes: Mapping[str, int]) -> None:
    """Check that every part of the split has rows.

    Raises:
        DataError: If one has none.
    """
    empty = [part for part, size in sizes.items() if not size]
    if empty:
        raise DataError(
            f"{sum(sizes.values())} usable pairs are too few: nothing left for"
            f" {', '.join(empty)}; give more pairs or change the shares of the split"
        )


def keyed_hash(seed: int, *names: str) -> int:
    """Return a number from 0 to 2**63 - 1 that looks random, but depends on these only.

    Every random choice of the split is made this way, keyed on something that does not
    depend on which answer was preferred.
    """
    text = "\0".join([str(seed), *names]).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


def shuffled(ids: Sequence[str], *, seed: int, table: str) -> NDArray[np.int64]:
    """Return the order of the rows of a table.

    Args:
        ids: The identity of each row, of length ``n``.
        seed: Of the order.
        table: Name of the table: each has its own order.

    Returns:
        Row numbers, a permutation of shape ``(n,)`` that gives the same sequence of
        ids for any order of ``ids``.
    """
    keys = [(keyed_hash(seed, table, name), name) for name in ids]
    return np.array(sorted(range(len(ids)), key=keys.__getitem__), np.int64)


def chosen_first(pair_id: str, chosen: str, rejected: str, *, seed: int) -> bool:
    """Tell whether the preferred response is ``response_a`` of an unlabelled pair.

    The responses are sorted and then swapped by a bit that is keyed on the pair, so
    the text of ``response_a`` does not depend on which one was preferred.
    """
    swap = bool(keyed_hash(seed, "order", pair_id) & 1)
    return (chosen < rejected) != swap
