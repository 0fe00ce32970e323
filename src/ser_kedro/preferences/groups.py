"""Groups of prompts that are the same, or nearly so.

Whatever is split by group keeps every copy of a prompt on one side.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ser_kedro.preferences.shingles import (
    HASHES,
    SHINGLE,
    Numbers,
    Shingles,
    Words,
    changes,
    distinct,
    shingles,
)

__all__ = ["SHINGLE", "LargestGroup", "group_prompts", "largest_group", "normalize"]

# How far a member may be from the centre of its group, as a share of the threshold.
REACH = 0.75
# With how many prompts of one bucket a prompt is compared.
FIRST, PREVIOUS = 8, 8

# Five standard deviations of the similarity that 64 hashes estimate.
_SLACK = 0.25
_PAIRS = 50_000

_PUNCTUATION = {"Ps", "Pe", "Pi", "Pf", "Po", "Zs", "Zl", "Zp", "Cc", "Cs"}
_SIGNS = {"Sm", "Sc", "Sk", "So"}
_KEPT_PUNCTUATION = "#%&@*/\\"
_DECIMAL = ".,:"  # and a part of a time
_QUOTES = "`´"
# Decimal signs before a digit that no letter or other sign of the kind stands before.
_NO_DECIMAL = re.compile(r"[.,:](?:(?!\d)|(?<=[.,:].)|(?<=[^\W\d_].))")
# A minus is followed by a number, and is not glued to a word ("COVID-19").
_MINUS = re.compile(r"-(?<![^\W\d_]-)(?=\s*\d)")


class _Characters(dict[int, str]):
    """What each character becomes; found when it is first seen."""

    def __missing__(self, code: int) -> str:
        sign, kind = chr(code), unicodedata.category(chr(code))
        if sign in _DECIMAL:
            found = sign
        elif kind == "Pd" or sign == "\N{MINUS SIGN}":
            found = "-"
        elif kind == "Cf" or "\ufe00" <= sign <= "\ufe0f":
            found = ""  # invisible: joiners, soft hyphens, choices of a glyph
        elif sign in _KEPT_PUNCTUATION or (kind in _SIGNS and sign not in _QUOTES):
            found = f" {sign} "
        else:
            found = " " if kind in _PUNCTUATION or sign in _QUOTES else sign
        self[code] = found
        return found


_CHARACTERS = _Characters()


def normalize(key: str) -> str:
    """Fold the case and leave out white space and punctuation that mean nothing.

    Sentence punctuation, quotes, brackets and hyphens become a space. What changes the
    meaning stays: signs ("C++" and "C#", "5+3" and "5-3", "$5"), the decimal sign in a
    number, and marks on letters, such as the vowel signs of Hindi.
    """
    folded = unicodedata.normalize("NFKC", key).casefold()
    folded = unicodedata.normalize("NFKC", folded)
    text = _NO_DECIMAL.sub(" ", folded.translate(_CHARACTERS))
    text = _MINUS.sub("\0", text).replace("-", " ").replace("\0", " - ")
    # A prompt of signs only ("???") is still not the same as any other.
    return " ".join(text.split()) or " ".join(folded.split())


def group_prompts(keys: Iterable[str], threshold: float = 0.8) -> Numbers:
    """Number the prompts so that copies and near copies share a number.

    Copies are equal after ``normalize``. Near copies have a Jaccard similarity of at
    least ``threshold`` over their character 5-grams, those of text that many prompts
    share left out (``shingles.Shingles``). Texts shorter than a shingle are their
    own only shingle.

    A group has a centre: the text with the most near copies. It takes its near copies,
    and near copies of these as long as their similarity to the centre is at least three
    quarters of the threshold, so that no chain of small changes leads far away.

    Several lists are grouped together by grouping them one behind the other.

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
    # By content, so that nothing below can depend on the order of the rows.
    texts = sorted(copies)
    place = np.fromiter((copies[text] for text in texts), np.int64, len(texts))
    centres = np.empty(len(texts), np.int64)
    centres[place] = place[_centres(shingles(texts, threshold), threshold)]
    _, first, numbers = np.unique(centres[rows], return_index=True, return_inverse=True)
    ranks = np.empty(len(first), np.int64)
    ranks[np.argsort(first)] = np.arange(len(first))
    return ranks[numbers.reshape(-1)]


def _centres(known: Shingles, threshold: float) -> Numbers:
    """Return the centre of the group of each text."""
    from scipy.sparse import csr_array

    count = len(known.sizes)
    pairs = _near_copies(known, threshold)
    ends = np.concatenate([pairs, pairs[:, ::-1]])
    graph = csr_array((np.ones(len(ends), bool), ends.T), shape=(count, count))
    links, starts = graph.indices, graph.indptr
    degrees = np.diff(starts)
    centres = np.arange(count)
    free = np.ones(count, bool)
    order = np.argsort(-degrees, kind="stable")
    for centre in order[: np.count_nonzero(degrees)].tolist():
        if not free[centre]:
            continue
        free[centre] = False
        ring = links[starts[centre] : starts[centre + 1]]
        ring = ring[free[ring]]
        while len(ring):
            free[ring] = False
            centres[ring] = centre
            around = np.concatenate([links[starts[i] : starts[i + 1]] for i in ring])
            ring = np.unique(around[free[around]])
            if len(ring):
                near = known.jaccard(np.full(len(ring), centre), ring)
                ring = ring[near >= REACH * threshold]
    return centres


def _near_copies(known: Shingles, threshold: float) -> Numbers:
    """Return the pairs of texts whose similarity is at least the threshold.

    Two texts are candidates if they share a bucket of the index. At most 5 % of the
    pairs that are just at the threshold share none; of pairs of a similarity of 0.9, at
    the default threshold of 0.8, it is one of 2,000.

    A bucket may hold any number of texts, so a text is compared with at most 16 of
    each: its first 8, and the 8 before the text. With the 10 buckets of the default
    threshold these are at most 160 comparisons a text, whatever the data. What that
    costs: two near copies are missed if all buckets that they share are crowded, and
    they are far apart in the order of the texts.

    Args:
        known: Of the texts, in an order that depends on nothing but their content.
        threshold: Jaccard similarity in (0, 1].

    Returns:
        Numbers of texts of shape ``(pairs, 2)``, the smaller first, each pair once.
    """
    count = len(known.sizes)
    filled = np.flatnonzero(known.sizes)
    pairs = np.empty(0, np.int64)
    for band in known.bands.T:
        codes = distinct(_candidates(filled, band[filled], count))
        codes = codes[~_known(codes, pairs)]
        left, right = np.divmod(codes, count)
        likely = _likely(known, left, right, threshold)
        left, right = left[likely], right[likely]
        near = known.jaccard(left, right) >= threshold
        pairs = np.sort(np.concatenate([pairs, (left * count + right)[near]]))
    return np.stack(np.divmod(pairs, max(1, count)), axis=1)


def _candidates(texts: Numbers, band: Words, count: int) -> Numbers:
    """Return candidates of one band as ``left * count + right``."""
    order = np.argsort(band, kind="stable")
    keys, texts = band[order], texts[order]
    opens = changes(keys)
    starts = np.flatnonzero(opens)
    start = starts[np.cumsum(opens) - 1]
    place = np.arange(len(keys))
    found = []
    for step in range(1, PREVIOUS + 1):
        later = np.flatnonzero(place - start >= step)
        found.append(texts[later - step] * count + texts[later])
    for first in range(FIRST):
        later = np.flatnonzero(place - start > PREVIOUS + first)
        found.append(texts[start[later] + first] * count + texts[later])
    return np.concatenate(found)


def _likely(
    known: Shingles, left: Numbers, right: Numbers, threshold: float
) -> NDArray[np.bool_]:
    """Rule out by size and by sketch what cannot be similar enough."""
    sizes = known.sizes
    small = np.minimum(sizes[left], sizes[right])
    likely = small >= threshold * np.maximum(sizes[left], sizes[right])
    least = (threshold - _SLACK) * HASHES
    for start in range(0, len(left), _PAIRS):
        part = start + np.flatnonzero(likely[start : start + _PAIRS])
        same = known.sketches[left[part]] == known.sketches[right[part]]
        likely[part] = np.count_nonzero(same, axis=1) >= least
    return np.asarray(likely)


def _known(codes: Numbers, pairs: Numbers) -> NDArray[np.bool_]:
    if not len(pairs):
        return np.zeros(len(codes), bool)
    place = np.minimum(np.searchsorted(pairs, codes), len(pairs) - 1)
    return np.asarray(pairs[place] == codes)


@dataclass(frozen=True)
class LargestGroup:
    """The prompt group with the most rows.

    Attributes:
        rows: Their number.
        share: Of all rows.
        prompts: Number of its different prompts, exact copies counted once.
        examples: Up to three of them, shortened.
    """

    rows: int
    share: float
    prompts: int
    examples: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"One prompt group holds {self.share:.0%} of the training pairs:"
            f" {self.rows} pairs, {self.prompts} prompts that count as near copies,"
            f" such as {'; '.join(map(repr, self.examples))}."
            " A larger data_split.near_copy_threshold separates them"
        )


def largest_group(numbers: Numbers, keys: Sequence[str]) -> LargestGroup:
    """Return the largest group.

    Args:
        numbers: The group of each row, of shape ``(n,)``.
        keys: The text of each row.
    """
    if not len(numbers):
        return LargestGroup(0, 0.0, 0, ())
    sizes = np.bincount(numbers)
    # Of equal groups the one with the smallest text, whatever the order of the rows.
    largest = np.flatnonzero(sizes == sizes.max())
    members = np.flatnonzero(np.isin(numbers, largest)).tolist()
    smallest = numbers[min(members, key=lambda row: (normalize(keys[row]), keys[row]))]
    texts: dict[str, str] = {}
    for row in np.flatnonzero(numbers == smallest).tolist():
        text = normalize(keys[row])
        texts[text] = min(keys[row], texts.get(text, keys[row]))
    examples = tuple(_shortened(texts[text]) for text in sorted(texts)[:3])
    rows = int(sizes.max())
    return LargestGroup(rows, rows / len(numbers), len(texts), examples)


def _shortened(text: str, width: int = 80) -> str:
    """Return a text on one line, its beginning and its end if it is longer."""
    line = " ".join(text.split())
    half = (width - 5) // 2
    return line if len(line) <= width else f"{line[:half]} ... {line[-half:]}"
