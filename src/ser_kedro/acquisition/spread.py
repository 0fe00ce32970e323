"""How much pairs differ, and which of them lie far apart: pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_array

# Decimals of squared distances: rounding errors must not tell copies apart.
_DIGITS = 12
_BLOCK = 256  # known rows that are compared at once


def embed(texts: Sequence[str]) -> csr_array:
    """Return hashed n-grams of texts, weighted by how rare they are among them.

    The n-grams are of four characters and lie within words, so the order of words does
    not matter. Neither do case and white space.

    Args:
        texts: Of length ``n``, at least 1.

    Returns:
        Shape ``(n, 2**18)``, not negative; the Euclidean length of a row is 1, or 0
        without n-grams. The distance of two rows is in [0, √2], and its square is twice
        their cosine distance.
    """
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

    hashing = HashingVectorizer(
        analyzer="char_wb",
        ngram_range=(4, 4),
        n_features=2**18,
        alternate_sign=False,
        norm=None,
    )
    # Without weights, what all texts share (an instruction, small words) would count.
    weighted = TfidfTransformer(sublinear_tf=True)
    return weighted.fit_transform(hashing.transform(texts))


def k_center(embeddings: csr_array, count: int, known: int = 0) -> NDArray[np.int64]:
    """Choose rows that lie far apart, by greedy k-centre.

    Each choice is the row that is farthest from its nearest centre, the earliest of
    several. Centres are the rows that are known and those that are chosen already;
    without any, the first row is chosen. So the largest distance of a row from its
    nearest centre is at most twice the smallest that ``count`` more centres can give,
    and a copy of a centre is chosen only when nothing but copies is left (Sener and
    Savarese, 2018, arXiv 1708.00489).

    Args:
        embeddings: Shape ``(n, width)``; distances are Euclidean.
        count: Rows to choose, at most.
        known: How many rows, from the first, are centres already, in [0, n].

    Returns:
        Different rows in the order of choice, shape ``(min(count, n - known),)``.
    """
    rest = embeddings[known:]
    squares = _squares(rest)
    nearest = np.full(len(squares), np.inf)
    for start in range(0, known, _BLOCK):
        block = embeddings[start : min(known, start + _BLOCK)]
        both = squares[:, None] + _squares(block)[None]
        distances = np.round(both - 2 * (rest @ block.T).toarray(), _DIGITS)
        nearest = np.minimum(nearest, distances.min(axis=1))
    centres = np.empty(min(count, len(squares)), np.int64)
    for place in range(len(centres)):
        row = int(nearest.argmax())
        products = rest @ rest[[row]].toarray()[0]
        distances = np.round(squares + squares[row] - 2 * products, _DIGITS)
        nearest = np.minimum(nearest, distances)
        nearest[row] = -np.inf
        centres[place] = row
    return known + centres


def _squares(embeddings: csr_array) -> NDArray[np.float64]:
    """Return the squared Euclidean length of each row, shape ``(n,)``."""
    return np.asarray(embeddings.multiply(embeddings).sum(axis=1)).ravel()
