"""Which pair goes where: decided by prompt, and never by which answer was preferred."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal, NamedTuple, Self, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ser_kedro.errors import DataError
from ser_kedro.preferences.groups import (
    LargestGroup,
    group_prompts,
    largest_group,
    normalize,
)
from ser_kedro.preferences.keyed import keyed_hash

logger = logging.getLogger(__name__)

Part = Literal["test", "sft", "labeled", "validation", "unlabeled", "ppo"]
PARTS: tuple[Part, ...] = get_args(Part)
IN_TEST_SET = -1
IN_VALIDATION_SET = -2
_HELD_OUT: tuple[Part, ...] = ("test", "validation")
# Share of the rows above which a group is reported, and a single prompt is split.
LARGE = 0.2
# What is split as a whole: its kind ("group" or "pair"), and its name.
Unit = tuple[str, str]

Share = Annotated[float, Field(gt=0, lt=1)]


class SplitParams(BaseModel):
    """How preference data is divided; the shares are those of the paper.

    Attributes:
        sft_share: Share of the training pairs for supervised fine-tuning.
        rm_share: Share for the reward model, labelled or not.
        ppo_share: Share whose prompts are for reinforcement learning. The three
            shares must sum to 1.
        labeled_share: Share of the reward model's pairs that keep their human label;
            all of them where the pool comes separately.
        validation: How loops are judged on human labels: ``crossfit`` on all of them,
            each by models that have not seen it; ``holdout`` on a part that no model
            trains on (paper).
        validation_share: Share of the labelled pairs that is held out under
            ``holdout``.
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
    validation: Literal["crossfit", "holdout"] = "crossfit"
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


class SplitPrompt(NamedTuple):
    """A prompt with so many rows that they are split one by one."""

    prompt: str
    rows: int


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
        largest: The largest group of the training rows that are not in the test set.
        split_by_pair: The prompts whose pairs are on several sides.
        pool_parts: Number in ``PARTS`` of ``unlabeled`` for every row of a given pool,
            ``IN_TEST_SET`` or ``IN_VALIDATION_SET`` for those whose prompts are held
            out; int8 of shape ``(pool rows,)``.
        pool_groups: Name of the prompt group of each of these.
    """

    parts: NDArray[np.int8]
    groups: list[str]
    test_groups: list[str]
    distinct_prompts: int
    prompt_groups: int
    largest: LargestGroup
    split_by_pair: tuple[SplitPrompt, ...] = ()
    pool_parts: NDArray[np.int8] = field(default_factory=lambda: np.empty(0, np.int8))
    pool_groups: list[str] = field(default_factory=list)

    def pool_rows(self) -> NDArray[np.int64]:
        """Return the numbers of the rows of a given pool that stay in it."""
        return np.flatnonzero(self.pool_parts >= 0).astype(np.int64)

    def rows(self, part: Part) -> NDArray[np.int64]:
        """Return the numbers of the training rows of one part, in file order."""
        return np.flatnonzero(self.parts == PARTS.index(part)).astype(np.int64)


def assign(
    keys: Sequence[str],
    *,
    params: SplitParams,
    seed: int,
    test_keys: Sequence[str] | None = None,
    pair_ids: Sequence[str] | None = None,
    pool_keys: Sequence[str] | None = None,
) -> Assignment:
    """Give every training row a part, by the group of its prompt.

    The groups are put in an order that depends on their text and the seed alone, and
    the parts are filled one after the other, so that each comes as close to its share
    of the rows as the groups allow. Neither the order of the rows nor which answer was
    preferred can matter.

    A prompt (its exact copies) with more than a fifth of the rows would leave parts
    empty, so its pairs are split one by one, by their identity. If a part is empty all
    the same, so are those of each prompt with more rows than the smallest part asks
    for. Such a prompt is on several sides, which is logged and reported.

    Args:
        keys: The key of every training row's prompt (``schema.prompt_key``).
        params: The shares.
        seed: Of the order of the groups.
        test_keys: The same of a given test set. Training rows that share a group with
            one of them are out (``IN_TEST_SET``), and no row is assigned to ``test``.
        pair_ids: The identity of every training row. Without it, no prompt is split.
        pool_keys: The same as ``keys``, of a given pool; then no training row goes to
            ``unlabeled``.

    Returns:
        The part and the group of every row.
    """
    everything = [*keys, *(test_keys or ()), *(pool_keys or ())]
    given = len(keys) + len(test_keys or ())
    numbers = group_prompts(everything, params.near_copy_threshold)
    texts = [normalize(key) for key in everything]
    names = _group_names(numbers, texts)
    mine, theirs, pool = np.split(numbers, [len(keys), given])
    in_test = np.isin(mine, theirs)
    free = np.flatnonzero(~in_test).tolist()
    prompts = [texts[row] for row in free]
    groups = [names[mine[row]] for row in free]
    widths = _widths(params, test_keys is None, pool_keys is not None)
    ids = None if pair_ids is None else [pair_ids[row] for row in free]
    filled, parted = _fill_parts(groups, prompts, ids, widths, seed)
    parts = np.full(len(keys), IN_TEST_SET, np.int8)
    parts[free] = filled
    whole = np.array([text not in parted for text in texts[: len(keys)]], bool)
    held = {part: mine[whole & (parts == PARTS.index(part))] for part in _HELD_OUT}
    found = Assignment(
        parts=parts,
        groups=[names[number] for number in mine],
        test_groups=[names[number] for number in theirs],
        distinct_prompts=len(set(texts)),
        prompt_groups=len(names),
        largest=largest_group(mine[free], [keys[row] for row in free]),
        split_by_pair=tuple(
            SplitPrompt(_shown(prompt, keys, texts), rows)
            for prompt, rows in parted.items()
        ),
        pool_parts=_pool_parts(pool, np.r_[theirs, held["test"]], held["validation"]),
        pool_groups=[names[number] for number in pool],
    )
    _warn(found)
    return found


def _pool_parts(
    pool: NDArray[np.int64], test: NDArray[np.int64], validation: NDArray[np.int64]
) -> NDArray[np.int8]:
    """Return where each row of a pool goes, by the groups that are held out."""
    parts = np.full(len(pool), PARTS.index("unlabeled"), np.int8)
    parts[np.isin(pool, validation)] = IN_VALIDATION_SET
    parts[np.isin(pool, test)] = IN_TEST_SET
    return parts


def _fill_parts(
    groups: Sequence[str],
    prompts: Sequence[str],
    ids: Sequence[str] | None,
    widths: Sequence[float],
    seed: int,
) -> tuple[NDArray[np.int8], dict[str, int]]:
    """Return the part of each row, and the prompts that are split by pair."""
    whole = [("group", name) for name in groups]
    if ids is None:
        return _fill(whole, widths, seed), {}
    for most in (LARGE, min(width for width in widths if width)):
        parted = _large_prompts(prompts, most * len(prompts))
        units = [
            ("pair", ids[row]) if prompt in parted else whole[row]
            for row, prompt in enumerate(prompts)
        ]
        filled = _fill(units, widths, seed)
        if not _empty(filled, widths):
            break
    return filled, parted


def _shown(prompt: str, keys: Sequence[str], texts: Sequence[str]) -> str:
    # Of the ways to write it, one that does not depend on the order of the rows.
    written = {key for key, text in zip(keys, texts, strict=False) if text == prompt}
    return " ".join(min(written).split())[:80]


def _large_prompts(prompts: Sequence[str], most: float) -> dict[str, int]:
    """Return the rows of each prompt that has more than ``most``, and at least two."""
    sizes = Counter(prompts)
    return {p: sizes[p] for p in sorted(sizes) if sizes[p] > max(1.0, most)}


def _warn(found: Assignment) -> None:
    largest = found.largest
    if largest.share > LARGE and largest.prompts > 1:
        logger.warning("%s", largest)
    for prompt, rows in found.split_by_pair:
        logger.warning(
            "The prompt %r has %d pairs: they are split one by one, so this prompt is"
            " on several sides of the split",
            prompt,
            rows,
        )


def _group_names(numbers: NDArray[np.int64], texts: list[str]) -> list[str]:
    # A group is named after its smallest prompt, whatever the order of the rows.
    smallest: dict[int, str] = {}
    for number, text in zip(numbers.tolist(), texts, strict=True):
        smallest[number] = min(text, smallest.get(number, text))
    ordered = [smallest[number] for number in range(len(smallest))]
    return [hashlib.sha256(text.encode()).hexdigest()[:32] for text in ordered]


def _widths(params: SplitParams, with_test: bool, with_pool: bool) -> list[float]:
    """Return the share of the rows that each of ``PARTS`` should get."""
    labeled_share = 1.0 if with_pool else params.labeled_share
    labels = params.rm_share * labeled_share
    held_out = params.validation_share if params.validation == "holdout" else 0.0
    shares = [
        params.sft_share,
        labels * (1 - held_out),
        labels * held_out,
        params.rm_share * (1 - labeled_share),
        params.ppo_share,
    ]
    test = params.test_share if with_test else 0.0
    return [test, *(share * (1 - test) for share in shares)]


def _fill(
    units: Sequence[Unit], widths: Sequence[float], seed: int
) -> NDArray[np.int8]:
    """Return the part of each row; rows of one unit stay together."""
    sizes = Counter(units)
    order = sorted(sizes, key=lambda unit: keyed_hash(seed, *unit))
    ordered = np.array([sizes[unit] for unit in order], np.int64)
    # A unit lies where its middle lies.
    middles = (np.cumsum(ordered) - ordered / 2) / max(1, len(units))
    found = np.searchsorted(np.cumsum(widths)[:-1], middles, side="right")
    part = dict(zip(order, found.tolist(), strict=True))
    return np.array([part[unit] for unit in units], np.int8)


def _empty(parts: NDArray[np.int8], widths: Sequence[float]) -> bool:
    sizes = np.bincount(parts, minlength=len(PARTS))
    return any(width and not size for width, size in zip(widths, sizes, strict=True))


def check_enough(sizes: Mapping[str, int], assignment: Assignment) -> None:
    """Check that every part of the split has rows.

    Args:
        sizes: Rows of each part.
        assignment: Where the rows went; tells why a part has none.

    Raises:
        DataError: If one has none.
    """
    empty = ", ".join(part for part, size in sizes.items() if not size)
    if not empty:
        return
    rows = len(assignment.parts)
    out = int((assignment.parts == IN_TEST_SET).sum())
    if rows and out == rows:
        raise DataError(
            f"all {rows} training pairs are out: their prompts are in the test set;"
            " give a test set with other prompts, or none"
        )
    largest = assignment.largest
    if largest.share > 0.5 and largest.prompts > 1:
        raise DataError(f"nothing left for {empty}: {largest}")
    note = f" ({out} more have prompts of the test set)" if out else ""
    raise DataError(
        f"{rows - out} usable pairs are too few{note}: nothing left for {empty}; give"
        " more pairs or change the shares of the split"
    )
