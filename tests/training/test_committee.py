"""A committee of views: its fits against each other, and honesty out of fold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from ser_kedro.training.committee import (
    Pairs,
    choose_penalties,
    co_train,
    correlation_of_views,
    cross_fit,
    fit_member,
    fit_members,
    folds_of,
    losses_of,
)
from ser_kedro.training.committee_params import CommitteeParams

PARAMS = CommitteeParams(folds=4)
VIEWS, WIDTH = 4, 6


def world(labels, pool, seed=0, *, noise=1.0):
    """Views that each see the truth with an error of their own."""
    random = np.random.default_rng(seed)
    truth = random.normal(size=labels + pool)
    errors = random.normal(size=(labels + pool, VIEWS, WIDTH))
    seen = truth[:, None, None] + noise * errors
    label = (truth > 0).astype(float)
    human = Pairs(seen[:labels], label[:labels], np.ones(labels))
    return human, seen[labels:], label[labels:]


def accuracy(members, pool, label):
    votes = np.einsum("nvh,vh->n", pool, members)
    return float(np.mean((votes > 0) == (label > 0.5)))


def test_a_member_minimises_the_loss_it_names():
    random = np.random.default_rng(0)
    x, labels = random.normal(size=(30, 3)), random.uniform(size=30)
    weights = random.uniform(0.5, 2, 30)

    def loss(w):
        pairs = Pairs(x[:, None], labels, weights)
        return np.average(losses_of(pairs, x @ w), weights=weights) + 0.35 * w @ w

    best = minimize(loss, np.zeros(3), tol=1e-10).x
    np.testing.assert_allclose(fit_member(x, labels, weights, 0.7), best, atol=1e-3)


@given(st.integers(0, 50))
def test_turning_a_pair_round_changes_nothing(seed):
    random = np.random.default_rng(seed)
    x, labels = random.normal(size=(12, 3)), random.uniform(size=12)
    turned = random.integers(2, size=12).astype(bool)
    sign = np.where(turned, -1.0, 1.0)
    other = np.where(turned, 1 - labels, labels)

    one = fit_member(x, labels, np.ones(12), 0.5)
    two = fit_member(x * sign[:, None], other, np.ones(12), 0.5)

    np.testing.assert_allclose(one, two, atol=1e-3)


@pytest.mark.parametrize("labels", [[1.0], [1.0, 1.0], [0.5]])
def test_the_fewest_labels_are_fitted(labels):
    x = np.ones((len(labels), 2))
    member = fit_member(x, np.array(labels), np.ones(len(labels)), 0.1)

    assert np.isfinite(member).all()
    assert (x @ member >= -1e-6).all()


def test_many_noisy_numbers_ask_for_a_larger_penalty():
    little, _, _ = world(40, 0, noise=8.0)
    much, _, _ = world(400, 0, noise=0.3)

    def penalty(pairs):
        return np.mean(choose_penalties(pairs, np.arange(len(pairs)) % 4))

    assert penalty(little) > penalty(much)


def test_views_that_err_apart_are_better_together_and_teach_each_other():
    """Of members, of their mean, and of the mean after co-training."""
    found = []
    for seed in range(5):
        human, pool, label = world(24, 1500, seed, noise=4.0)
        penalties = [0.1] * VIEWS
        members = fit_members(human, penalties)
        alone = [
            accuracy(np.where(np.arange(VIEWS)[:, None] == v, members, 0), pool, label)
            for v in range(VIEWS)
        ]
        taught = co_train(human, pool, members, penalties, PARAMS)
        found.append(
            (
                np.mean(alone),
                accuracy(members, pool, label),
                accuracy(taught, pool, label),
            )
        )
    alone, together, taught = np.mean(found, 0)

    assert together > alone + 0.03
    assert taught > together + 0.01


def test_without_a_pool_to_speak_of_members_stay_as_they_were():
    human, pool, _ = world(20, 1)

    members = fit_members(human, [0.1] * VIEWS)

    taught = co_train(human, pool, members, [0.1] * VIEWS, PARAMS)

    np.testing.assert_array_equal(taught, members)


class TestOutOfFold:
    def test_it_is_what_new_pairs_would_show(self):
        human, pool, label = world(200, 2000, noise=4.0)
        folds = np.arange(200) % 4
        found = cross_fit(human, None, folds, [0.1] * VIEWS, PARAMS)

        votes = found.logits(human.differences, found.plain)
        held_out = np.mean((votes > 0) == (human.labels > 0.5))
        new = accuracy(fit_members(human, [0.1] * VIEWS), pool, label)

        assert abs(held_out - new) < 0.07

    @pytest.mark.parametrize("leak", [False, True])
    def test_labels_of_noise_are_not_learned_unless_a_fold_sees_its_own(self, leak):
        """The planted leak: members that were fitted on all labels."""
        random = np.random.default_rng(0)
        x = random.normal(size=(120, VIEWS, 60))
        human = Pairs(x, random.integers(2, size=120).astype(float), np.ones(120))
        folds = np.arange(120) % 4
        found = cross_fit(human, x, folds, [0.01] * VIEWS, PARAMS)
        members = {"plain": found.plain, "co_trained": found.co_trained}
        if leak:
            whole = np.stack([fit_members(human, [0.01] * VIEWS)] * 4)
            members = dict.fromkeys(members, whole)

        for each in members.values():
            votes = found.logits(human.differences, each)
            right = np.mean((votes > 0) == (human.labels > 0.5))
            assert (right > 0.9) if leak else (0.35 < right < 0.65)


@given(
    st.lists(st.sampled_from("abcdefgh"), min_size=2, max_size=60),
    st.integers(2, 6),
    st.integers(0, 3),
)
def test_folds_keep_groups_whole_and_are_of_like_size(groups, count, seed):
    folds = folds_of(groups, count, seed)

    of_group = {}
    for group, fold in zip(groups, folds, strict=True):
        assert of_group.setdefault(group, fold) == fold
    sizes = np.bincount(folds)
    assert len(sizes) == min(count, len(set(groups)))
    largest = max(groups.count(name) for name in groups)
    assert sizes.min() > 0 and sizes.max() - sizes.min() <= largest
    np.testing.assert_array_equal(folds, folds_of(groups, count, seed))


class TestHowAlikeViewsErr:
    @staticmethod
    def votes(shared, count=4000, views=3):
        """Votes for the truth, with errors of which a share is common to all."""
        random = np.random.default_rng(0)
        labels = random.integers(2, size=count).astype(float)
        common = random.normal(size=(count, 1))
        own = random.normal(size=(count, views))
        errors = np.sqrt(shared) * common + np.sqrt(1 - shared) * own
        return np.where(labels > 0.5, 1.0, -1.0)[:, None] + errors, labels

    @pytest.mark.parametrize("shared", [0.0, 0.3, 0.9])
    def test_it_is_the_share_of_their_error_that_is_common(self, shared):
        """The label, on which all agree, has no part in it."""
        found = correlation_of_views(*self.votes(shared))
        assert found == pytest.approx(shared, abs=0.04)

    def test_to_turn_pairs_round_changes_nothing(self):
        votes, labels = self.votes(0.3)
        turned = np.arange(len(labels)) % 3 == 0
        sign = np.where(turned, -1.0, 1.0)[:, None]
        again = correlation_of_views(sign * votes, np.where(turned, 1 - labels, labels))
        assert again == pytest.approx(correlation_of_views(votes, labels))

    def test_one_view_has_nothing_to_be_alike_to(self):
        votes, labels = self.votes(0.3, views=1)
        assert correlation_of_views(votes, labels) is None
        constant = np.zeros((len(labels), 2))
        assert correlation_of_views(constant, 0 * labels) is None
