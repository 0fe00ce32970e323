"""Groups of prompts that are the same, or nearly so.

Whatever is split by group keeps every copy of a prompt on one side.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHINGLE = 5
_PERMUTATIONS = 64
_BATCH = 1024


def normalize(key: str) -> str:
    """Fold the case and collapse all punctuation and white space of a key."""
    text = unicodedata.normalize("NFKC", key).casefold()
    words = "".join(c if c.isalnum() else " " for c in text).split()
    # A prompt of signs only ("???", an emoji) is still not the same as any other.
    return " ".join(words) if words else " ".join(text.split())


def group_prompts(keys: Iterable[str], threshold: float = 0.8) -> NDArray[np.int64]:
    """Number the prompts so that copies and near copies share a number.

    Copies are equal after ``normalize``. Near copies have a Jaccard similarity of at
    least ``threshold`` over their character 5-grams; candidates come from MinHash and
    locality-sensitive hashing (Broder, 1997; Indyk and Motwani, 1998), and each is
    checked exactly. Near copies of near copies belong to the group too. Texts shorter
    than a shingle are their own only shingle.

    Args:
        keys: The texts to group, of length ``n``; see ``schema.prompt_key``.
        threshold: Jaccard similarity in (0, 1] from which on two texts are near copies.

    Returns:
        Group numbers of shape ``(n,)``, counted in the order of the groups' first
        rows. Which rows share a group does not depend on the order of the rows.

    Raises:
        ValueError: If the threshold is out of range.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold={threshold}: must be in (0, 1]")
    copies: dict[str, int] = {}
    rows = np.fromiter(
        (copies.setdefault(normalize(key), len(copies)) for key in keys), np.int64
    )
    texts = list(copies)
    # By content, so that not even the order of the candidates is the file's.
    order = sorted(range(len(texts)), key=texts.__getitem__)
    roots = list(range(len(texts)))
    for one, other in _near_copies([texts[i] for i in order], threshold):
        left, right = _root(roots, order[one]), _root(roots, order[other])
        roots[max(left, right)] = min(left, right)
    found = np.array([_root(roots, i) for i in range(len(texts))], np.int64)
    _, numbers = np.unique(found, return_inverse=True)
    return numbers.reshape(-1)[rows].astype(np.int64)


def _root(roots: list[int], node: int) -> int:
    while roots[node] != node:
        roots[node] = roots[roots[node]]
        node = roots[node]
    return node


def _shingles(text: str) -> set[str]:
    return {text[i : i + SHINGLE] for i in range(max(1, len(text) - SHINGLE + 1))}


def _hashes(text: str) -> NDArray[np.uint64]:
    codes = np.frombuffer(text.ljust(SHINGLE).encode("utf-32-le"), np.uint32)
    grams = np.lib.stride_tricks.sliding_window_view(codes, SHINGLE).astype(np.uint64)
    mixed = np.zeros(len(grams), np.uint64)
    for place in range(SHINGLE):
        # Steps of the Fowler-Noll-Vo hash, on code points instead of bytes.
        mixed = (mixed ^ grams[:, place]) * np.uint64(0x100000001B3)
        mixed ^= mixed >> np.uint64(29)
    return np.unique(mixed & np.uint64(0xFFFFFFFF))


def _near_copies(texts: list[str], threshold: float) -> Iterable[tuple[int, int]]:
    """Yield the pairs of near copies among different normalised texts."""
    from datasketch import MinHash, MinHashLSH

    # The index may only propose: it is set to miss few, and the check is exact.
    lower = max(0.05, threshold - 0.1)
    index: Any = MinHashLSH(
        threshold=lower, num_perm=_PERMUTATIONS, weights=(0.2, 0.8), hashfunc=_key_hash
    )
    for start in range(0, len(texts), _BATCH):
        batch = texts[start : start + _BATCH]
        sketches = MinHash.generator(
            [_hashes(text) for text in batch],
            num_perm=_PERMUTATIONS,
            seed=1,
            hashfunc=_identity,
        )
        for place, sketch in enumerate(sketches, start):
            candidates = index.query(sketch)
            mine = _shingles(texts[place]) if candidates else set()
            for other in sorted(candidates):
                theirs = _shingles(texts[other])
                if len(mine & theirs) >= threshold * len(mine | theirs):
                    yield other, place
            index.insert(place, sketch, check_duplication=False)


def _identity(value: Any) -> Any:
    return value


def _key_hash(key: bytes) -> bytes:
    return hashlib.blake2b(key, digest_size=8).digest()
