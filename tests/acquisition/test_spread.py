"""Pairs that are asked for lie far apart, by properties."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.sparse import csr_array

from ser_kedro.acquisition.ranking import CANDIDATES, rank
from ser_kedro.acquisition.spread import embed, k_center

few = settings(max_examples=60)
words = st.text(st.sampled_from("abc d\n"), max_size=12)
counts = st.integers(1, 4)


@st.composite
def grids(draw, largest):
    """Points on a small grid, many of them copies, the first of which are known."""
    size = draw(st.integers(1, largest))
    grid = draw(arrays(np.int64, (size, 2), elements=st.integers(0, 3)))
    return grid.astype(float), draw(st.integers(0, size))


def radius(points, centres):
    """The largest distance of a point from its nearest centre."""
    apart = np.linalg.norm(points[:, None] - points[None, list(centres)], axis=-1)
    return apart.min(axis=1).max()


@few
@given(grids(8), counts)
def test_covers_at_most_twice_as_badly_as_the_best(grid, count):
    points, known = grid
    chosen = k_center(csr_array(points), count, known)
    before = range(known)
    best = min(
        radius(points, [*before, *more])
        for more in combinations(range(known, len(points)), len(chosen))
    )
    assert radius(points, [*before, *chosen]) <= 2 * best + 1e-9


@few
@given(grids(10), st.integers(2, 4), st.floats(0, 0.5), st.randoms())
def test_requests_of_equal_scores_cover_as_well(grid, count, share, random):
    points, _ = grid
    size = len(points)
    order = np.array(random.sample(range(size), size))
    found = rank(
        np.zeros(size),
        np.arange(size),
        order,
        count=count,
        random_share=share,
        embed=lambda numbers: csr_array(points[numbers]),
    )
    drawn, chosen = found.rows[found.random], found.rows[~found.random]
    assume(size <= CANDIDATES * len(chosen))  # so that all are candidates
    rest = sorted(set(range(size)) - set(drawn))
    best = min(
        radius(points, [*drawn, *more]) for more in combinations(rest, len(chosen))
    )
    assert radius(points, found.rows) <= 2 * best + 1e-9


@few
@given(grids(20), st.integers(1, 25))
def test_no_copy_is_chosen_while_others_remain(grid, count):
    points, known = grid
    chosen = k_center(csr_array(points), count, known).tolist()
    for place, row in enumerate(chosen):
        centres = [*range(known), *chosen[:place]]
        copies = {tuple(points[centre]) for centre in centres}
        if tuple(points[row]) in copies:
            assert {tuple(point) for point in points} == copies


@few
@given(grids(20), st.integers(0, 25))
def test_as_many_as_asked_for_and_each_once(grid, count):
    points, known = grid
    chosen = k_center(csr_array(points), count, known)
    assert len(chosen) == len(set(chosen)) == min(count, len(points) - known)
    assert (chosen >= known).all()


@few
@given(grids(20), st.integers(1, 25))
def test_whoever_stops_early_has_the_first_of_them(grid, count):
    points, known = grid
    chosen = k_center(csr_array(points), count, known)
    for stop in range(count):
        first = k_center(csr_array(points), stop, known)
        assert first.tolist() == chosen[:stop].tolist()


def test_ties_are_broken_by_the_given_order():
    corners = [[0, 0], [0, 1], [1, 0], [1, 1], [1, 1]]
    assert k_center(csr_array(np.array(corners, float)), 5).tolist() == [0, 3, 1, 2, 4]


def test_rounding_does_not_tell_copies_apart():
    texts = [f"{'what is ' * n}{n} {n**5 * 7919}" for n in range(3, 33)]
    chosen = k_center(embed(texts * 2), 60)
    assert len(set(chosen[:30] % 30)) == 30
    assert chosen[30:].tolist() == list(range(30, 60))


def test_the_farthest_from_what_is_known_comes_first():
    line = csr_array(np.array([[0.0], [5.0], [2.0], [9.0]]))
    assert k_center(line, 2, known=1).tolist() == [3, 1]


@few
@given(st.lists(words, min_size=1, max_size=6))
def test_embeddings_are_of_length_one(texts):
    embeddings = embed(texts)
    assert embeddings.shape == (len(texts), 2**18) and embeddings.min() >= 0
    for row, text in zip(embeddings.toarray(), texts, strict=True):
        assert np.linalg.norm(row) == pytest.approx(1.0 if text.split() else 0.0)


@few
@given(st.lists(words, min_size=1, max_size=6), st.randoms())
def test_case_space_and_the_order_of_words_make_no_difference(texts, random):
    pieces = [text.split() for text in texts]
    copies = [" \n ".join(random.sample(each, len(each))).upper() for each in pieces]
    embeddings = embed([*texts, *copies, "something else"])
    size = len(texts)
    difference = embeddings[:size] - embeddings[size : 2 * size]
    assert abs(difference).max() == pytest.approx(0)
    assert k_center(embeddings, 1, known=size).tolist() == [2 * size]


def test_what_all_texts_share_counts_less():
    words = ("giraffe", "telescope", "mountain", "bicycle", "orchestra")
    shared = [f"please answer this question: {word}" for word in words]
    alone = [*shared[:2], *words[2:]]

    def similarity(texts):
        embeddings = embed(texts)
        return (embeddings[[0]] @ embeddings[[1]].T).toarray().item()

    assert similarity(shared) < similarity(alone) < 1
