"""What is compared of prompts: their 5-grams without the text that many share.

Text that many prompts share (an instruction, examples, a system prompt written into the
prompt) says nothing of what is asked. Time and memory grow with the length of the text.

Everything is computed from code points with fixed constants, so it is the same on every
machine and for every order of the rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_array

SHINGLE = 5
SHARED = 10  # text that no more prompts have than this is never left out
# With how many texts a stretch of so many characters counts as shared: by their share
# and at least ``SHARED``, or at most a number.
STRETCHES = ((20, 0.15, None), (40, 0.01, None), (80, 0.01, 30))

HASHES = 64
# How many of the pairs that are just at the threshold the index may miss.
_MISSED = 0.05
_BLOCK = 250_000  # characters; arrays of this length fit a processor's cache
_PAIRS = 50_000
_LOW = np.uint64(2**32 - 1)
_BASE = np.uint64(0x9E3779B97F4A7C15)
_INVERSE = np.uint64(pow(int(_BASE), -1, 2**64))

Numbers = NDArray[np.int64]
Words = NDArray[np.uint64]


@dataclass(frozen=True)
class Shingles:
    """The 5-grams of characters that stand for each text.

    *Shared text* is a stretch of characters that many texts have: 20 characters in more
    than 15 % of the texts, 40 in more than 1 %, or 80 in more than 30 texts; in more
    than 10 texts in any case. 5-grams that lie within shared text are left out. A text
    that has no others (nothing but an instruction) is not similar to any text.

    What that costs: a text of which there are very many near copies counts as shared
    too, so these are compared by what differs alone, and mostly stay apart.

    Attributes:
        rows: Row ``i`` has a one in the column of every 5-gram of text ``i``, which is
            a hash of 30 bits.
        sketches: The MinHash values, cut to 16 bits, of shape ``(texts, 64)``.
        bands: Hashes of the values of each band, of shape ``(texts, bands)``.
    """

    rows: csr_array
    sketches: NDArray[np.uint16]
    bands: Words

    @property
    def sizes(self) -> Numbers:
        """Number of 5-grams of each text."""
        return np.diff(self.rows.indptr).astype(np.int64)

    def jaccard(self, left: Numbers, right: Numbers) -> NDArray[np.float64]:
        """Return the similarity of the texts ``left[i]`` and ``right[i]``."""
        shared = np.empty(len(left), np.int64)
        for start in range(0, len(left), _PAIRS):
            part = slice(start, start + _PAIRS)
            both = self.rows[left[part]].multiply(self.rows[right[part]])
            shared[part] = both.sum(axis=1)
        union = self.sizes[left] + self.sizes[right] - shared
        return np.asarray(shared / np.maximum(1, union), np.float64)


def shingles(texts: Sequence[str], threshold: float) -> Shingles:
    """Return the 5-grams of texts, and the sketches to look for near copies in.

    Args:
        texts: All different.
        threshold: The similarity that is looked for.
    """
    padded = [text.ljust(SHINGLE) for text in texts]
    shared = _count_shared(padded)
    per_band = _hashes_per_band(threshold)
    bands = HASHES // per_band
    columns = [np.empty(0, np.int32)]
    sizes = [np.zeros(1, np.int64)]
    sketches = np.empty((len(texts), HASHES), np.uint16)
    keys = np.empty((len(texts), bands), np.uint64)
    done = 0
    for block in _blocks(padded):
        owners, grams = _rare_grams(block, shared)
        columns.append((grams >> np.uint64(2)).astype(np.int32))
        sizes.append(np.bincount(owners, minlength=block.count))
        least = _least(owners, grams, block.count)
        part = slice(done, done + block.count)
        sketches[part] = least & np.uint32(0xFFFF)
        keys[part] = _keys(least, bands, per_band)
        done += block.count
    from scipy.sparse import csr_array

    found = np.concatenate(columns)
    ends = np.cumsum(np.concatenate(sizes))
    rows = csr_array((np.ones(len(found), np.int8), found, ends), (len(texts), 2**30))
    return Shingles(rows, sketches, keys)


def _hashes_per_band(threshold: float) -> int:
    """Return the most hashes a band with which few near copies are missed."""

    def missed(hashes: int) -> float:
        return float((1 - threshold**hashes) ** (HASHES // hashes))

    return max(n for n in range(1, 17) if n == 1 or missed(n) <= _MISSED)


@dataclass(frozen=True)
class _Block:
    """Some texts one behind the other: code points, the text of each, and how many."""

    codes: Words
    owners: Numbers
    count: int

    def starts(self, width: int) -> Numbers:
        """Where windows of that width begin that do not leave their text."""
        if len(self.codes) < width:
            return np.empty(0, np.int64)
        return np.flatnonzero(
            self.owners[width - 1 :] == self.owners[: len(self.owners) - width + 1]
        )

    @cached_property
    def sums(self) -> Words:
        """Sums of a polynomial modulo 2**64, from the beginning of the block."""
        powers, _ = _powers(len(self.codes).bit_length())
        terms = _mix(self.codes) * powers[: len(self.codes)]
        return np.concatenate([np.zeros(1, np.uint64), np.cumsum(terms)])

    def windows(self, width: int, starts: Numbers) -> Words:
        """Return a hash of the window at each start."""
        _, back = _powers(len(self.codes).bit_length())
        return _mix((self.sums[starts + width] - self.sums[starts]) * back[starts])


@lru_cache(maxsize=2)
def _powers(bits: int) -> tuple[Words, Words]:
    """Return ``2**bits`` powers of the base and of its inverse."""
    powers = np.full((2, 2**bits), [[_BASE], [_INVERSE]], np.uint64)
    powers[:, 0] = 1
    powers = np.cumprod(powers, axis=1)
    return powers[0], powers[1]


def _mix(values: Words) -> Words:
    """Spread 64-bit numbers evenly (the finaliser of SplitMix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _blocks(texts: Sequence[str]) -> Iterator[_Block]:
    start = size = 0
    for place, text in enumerate(texts, 1):
        size += len(text)
        if size >= _BLOCK or place == len(texts):
            part = texts[start:place]
            raw = "".join(part).encode("utf-32-le", "surrogatepass")
            lengths = np.fromiter(map(len, part), np.int64, len(part))
            owners = np.repeat(np.arange(len(part)), lengths)
            codes = np.frombuffer(raw, "<u4").astype(np.uint64)
            yield _Block(codes, owners, len(part))
            start, size = place, 0


@dataclass(frozen=True)
class _Shared:
    """How many texts have a stretch, counted by a hash of it."""

    width: int
    limit: float
    bits: int
    counts: NDArray[np.uint32]

    def add(self, block: _Block) -> None:
        """Count the stretches of a block, each once a text."""
        starts = block.starts(self.width)
        slots = self.slots(block, starts)
        each = distinct((block.owners[starts] << self.bits) | slots)
        slots = np.sort(each & (2**self.bits - 1))
        first = np.flatnonzero(changes(slots))
        self.counts[slots[first]] += np.diff(first, append=len(slots)).astype("u4")

    def slots(self, block: _Block, starts: Numbers) -> Numbers:
        """Return the count that each stretch falls on."""
        windows = block.windows(self.width, starts)
        return (windows >> np.uint64(64 - self.bits)).astype(np.int64)

    def covered(self, block: _Block) -> NDArray[np.bool_]:
        """Say of each character whether it lies within shared text."""
        starts = block.starts(self.width)
        starts = starts[self.counts[self.slots(block, starts)] > self.limit]
        steps = np.zeros(len(block.codes) + 1, np.int32)
        steps[starts] += 1
        steps[starts + self.width] -= 1
        return np.asarray(np.cumsum(steps[:-1]) > 0)


def _count_shared(texts: Sequence[str]) -> list[_Shared]:
    if len(texts) <= SHARED:
        return []
    total = sum(map(len, texts))
    bits = min(25, max(16, total.bit_length() + 1))
    found = []
    for width, share, most in STRETCHES:
        limit = max(SHARED, share * len(texts))
        limit = limit if most is None else min(limit, most)
        # Stretches that fall on one count by chance must not pass for shared text.
        limit += 2 * total / 2**bits
        found.append(_Shared(width, limit, bits, np.zeros(2**bits, np.uint32)))
    for block in _blocks(texts):
        for each in found:
            each.add(block)
    return found


def _rare_grams(
    block: _Block, shared: Sequence[_Shared]
) -> tuple[Numbers, NDArray[np.uint64]]:
    """Return text and hash of every 5-gram that is kept, sorted, each once."""
    covered = np.zeros(len(block.codes), bool)
    for each in shared:
        covered |= each.covered(block)
    starts = block.starts(SHINGLE)
    sums = np.r_[0, np.cumsum(covered)]
    starts = starts[sums[starts + SHINGLE] - sums[starts] < SHINGLE]
    mixed = np.zeros(len(starts), np.uint64)
    for place in range(SHINGLE):
        # Steps of the Fowler-Noll-Vo hash, on code points instead of bytes.
        mixed = (mixed ^ block.codes[starts + place]) * np.uint64(0x100000001B3)
        mixed ^= mixed >> np.uint64(29)
    owners = block.owners[starts].astype(np.uint64) << np.uint64(32)
    kept = distinct(owners | (mixed & _LOW))
    return (kept >> np.uint64(32)).astype(np.int64), kept & _LOW


def _least(owners: Numbers, grams: Words, count: int) -> NDArray[np.uint32]:
    """Return the MinHash values of each text, of shape ``(count, hashes)``.

    They are those of ``datasketch.MinHash`` (scheme affine32, seed 1), for many texts
    at once.
    """
    random = np.random.RandomState(1)
    factors = random.randint(0, 2**31, HASHES, np.uint32) * np.uint32(2)
    added = random.randint(0, 2**32, HASHES, np.uint32)
    least = np.zeros((HASHES, count), np.uint32)
    starts = np.flatnonzero(changes(owners))
    if len(starts):
        filled, values = owners[starts], _murmur(grams.astype(np.uint32))
        for row, factor, term in zip(least, factors + np.uint32(1), added, strict=True):
            row[filled] = np.minimum.reduceat(values * factor + term, starts)
    return least.T


def _murmur(values: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Spread 32-bit numbers evenly (the finaliser of MurmurHash3)."""
    values = (values ^ (values >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    values = (values ^ (values >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return values ^ (values >> np.uint32(16))


def _keys(least: NDArray[np.uint32], bands: int, per_band: int) -> Words:
    """Return a hash of the values of each band."""
    joined = np.zeros((len(least), bands), np.uint64)
    for place in range(per_band):
        joined = _mix(joined ^ least[:, place : bands * per_band : per_band]) + _BASE
    return joined


def distinct(values: NDArray) -> NDArray:
    """Return the different values, sorted."""
    # np.unique hashes whole numbers since NumPy 2.3, and is many times slower here.
    ordered = np.sort(values)
    return ordered[changes(ordered)]


def changes(ordered: NDArray) -> NDArray[np.bool_]:
    """Say where a value differs from the one before it."""
    first = np.ones(len(ordered), bool)
    first[1:] = ordered[1:] != ordered[:-1]
    return first
