"""Random choices that depend on texts and a seed, never on labels or order."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


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
