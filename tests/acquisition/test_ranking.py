"""Which pairs are asked for, by properties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.sparse import csr_array

from ser_kedro.acquisition.ranking import (
    CANDIDATES,
    disagreement_scores,
    margin_scores,
    rank,
)

few = settings(max_examples=40)
probability = st.floats(0, 1)
votes = st.tuples(st.integers(1, 4), st.integers(0, 12)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=probability)
)


@st.composite
def pools(draw):
    size = draw(st.integers(0, 40))
    elements = st.sampled_from([0.0, 0.25, 0.5, 1.0])
    scores = draw(arrays(np.float64, size, elements=elements))
    groups = draw(arrays(np.int64, size, elements=st.integers(0, 15)))
    order = np.array(draw(st.permutations(range(size))), np.int64)
    return scores, groups, order


counts, shares = st.integers(1, 50), st.floats(0, 1)


@st.composite
def points(draw, size):
    """Points on a small grid, many of them copies, as a function of their numbers."""
    grid = draw(arrays(np.int64, (size, 2), elements=st.integers(0, 4)))
    return lambda numbers: csr_array(grid[numbers].astype(float))


@st.composite
def embedded_pools(draw):
    pool = draw(pools())
    return pool, draw(st.none() | points(len(pool[0])))


@few
@given(embedded_pools(), counts, shares)
def test_one_pair_of_each_group_until_there_are_enough(embedded, count, share):
    (scores, groups, order), embed = embedded
    found = rank(scores, groups, order, count=count, random_share=share, embed=embed)
    taken = groups[found.rows]
    assert len(set(taken)) == len(taken) == min(count, len(set(groups)))
    assert found.random.sum() == round(share * len(taken))


@few
@given(pools(), counts, shares)
def test_the_random_ones_depend_on_no_score(pool, count, share):
    scores, groups, order = pool
    found, other = (
        rank(each, groups, order, count=count, random_share=share)
        for each in (scores, -scores)
    )
    assert found.rows[found.random].tolist() == other.rows[other.random].tolist()
    # The first of the order that are no copies, so as likely as any other.
    _, first = np.unique(groups[order], return_index=True)
    drawn = order[np.sort(first)][: found.random.sum()]
    assert found.rows[found.random].tolist() == drawn.tolist()


@few
@given(embedded_pools(), counts, shares)
def test_the_random_ones_depend_on_no_embedding(embedded, count, share):
    pool, embed = embedded
    found, other = (
        rank(*pool, count=count, random_share=share, embed=each)
        for each in (embed, None)
    )
    assert found.random.tolist() == other.random.tolist()
    assert found.rows[found.random].tolist() == other.rows[other.random].tolist()


@few
@given(pools(), counts, shares)
def test_without_an_embedding_the_highest_scores_are_taken(pool, count, share):
    scores, groups, order = pool
    found = rank(scores, groups, order, count=count, random_share=share)
    taken = set(groups[found.rows[found.random]])
    expected = []
    for row in sorted(order, key=lambda row: -scores[row]):  # stable, so ties by order
        if groups[row] not in taken:
            expected.append(row)
            taken.add(groups[row])
    chosen = found.rows[~found.random]
    assert chosen.tolist() == expected[: len(chosen)]


@few
@given(embedded_pools(), counts, shares)
def test_pairs_are_spread_among_the_highest_scores(embedded, count, share):
    (scores, groups, order), embed = embedded
    found = rank(scores, groups, order, count=count, random_share=share, embed=embed)
    drawn, chosen = found.rows[found.random], found.rows[~found.random]
    candidates = len(chosen) * (CANDIDATES if embed else 1)
    left = np.where(np.isin(groups, groups[drawn]), -1, scores)
    best = rank(left, groups, order, count=max(1, candidates), random_share=0.0)
    assert set(chosen) <= set(best.rows)
    if len(chosen) and not len(drawn):
        assert chosen[0] == best.rows[0]


def two_of_a_line(*known):
    """Ask for two of the points 0, 1, ... 19, which score less and less."""
    line, labelled = np.arange(20.0), np.array(known, float)
    found = rank(
        -line,
        np.arange(20),
        np.arange(20),
        count=2,
        random_share=0.0,
        embed=lambda rows: csr_array(np.concatenate([labelled, line[rows]])[:, None]),
        known=len(known),
    )
    return found.rows.tolist()


def test_a_pair_with_a_low_score_is_not_asked_for_however_far_it_lies():
    assert two_of_a_line() == [0, 2 * CANDIDATES - 1]


def test_what_has_a_label_is_a_centre():
    """One at 0 leaves the farthest of the candidates, then the middle of the rest."""
    farthest = 2 * CANDIDATES - 1
    assert two_of_a_line(0) == [farthest, farthest // 2]


@few
@given(pools(), counts, shares)
def test_no_pair_that_is_left_would_have_been_better(pool, count, share):
    scores, groups, order = pool
    found = rank(scores, groups, order, count=count, random_share=share)
    chosen = scores[found.rows[~found.random]]
    assert (np.diff(chosen) <= 0).all()
    if len(chosen):
        left = ~np.isin(groups, groups[found.rows])
        assert (scores[left] <= chosen.min()).all()


@few
@given(embedded_pools(), counts, shares, st.data())
def test_the_order_of_the_table_does_not_matter(embedded, count, share, data):
    (scores, groups, order), embed = embedded
    moved = np.array(data.draw(st.permutations(range(len(scores)))), np.int64)
    place = np.argsort(moved)
    found = rank(scores, groups, order, count=count, random_share=share, embed=embed)
    other = rank(
        scores[moved],
        groups[moved],
        place[order],
        count=count,
        random_share=share,
        embed=embed and (lambda numbers: embed(moved[numbers])),
    )
    assert moved[other.rows].tolist() == found.rows.tolist()


@few
@given(pools(), st.integers(1, 20))
def test_whoever_stops_early_has_the_same_share_of_random_ones(pool, count):
    scores, _, order = pool
    found = rank(scores, np.arange(len(scores)), order, count=count, random_share=0.25)
    for done in range(1, len(found.rows) + 1):
        share = found.random.sum() / len(found.rows)
        assert abs(found.random[:done].sum() - done * share) <= 1


@few
@given(votes)
def test_which_answer_is_called_a_does_not_matter(p):
    for score in (margin_scores, disagreement_scores):
        assert score(p) == pytest.approx(score(1 - p), abs=1e-9)


@few
@given(votes)
def test_scores_are_in_their_range(p):
    margins, disagreements = margin_scores(p), disagreement_scores(p)
    assert ((margins >= -1e-12) & (margins <= 1)).all()
    assert ((disagreements >= 0) & (disagreements <= np.log(2) + 1e-12)).all()


def test_only_voters_that_differ_disagree():
    unsure, split = [[0.5], [0.5]], [[0.0], [1.0]]
    assert margin_scores(np.array(unsure)) == margin_scores(np.array(split)) == 1
    assert disagreement_scores(np.array(unsure)) == 0
    assert disagreement_scores(np.array(split)) == pytest.approx(np.log(2))
