import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError

from ser_kedro.models.fit_calibration import fit
from ser_kedro.self_evolution.params import EvolutionParams
from ser_kedro.self_evolution.status import (
    Status,
    decide_status,
    pairs_needed,
    preference,
    select,
)

PROBABILITIES = st.floats(0, 1)
RULES = ["count", "per_pair", "schedule"]


def of(*pairs):
    both = np.array(pairs, np.float64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def params(**changes):
    return EvolutionParams(**{"min_count": 1, "min_share": 0, **changes})


@st.composite
def probabilities(draw):
    size = draw(st.integers(0, 30))
    return tuple(draw(arrays(np.float64, size, elements=PROBABILITIES)) for _ in "ab")


@st.composite
def thresholds(draw, rule=None):
    rule = rule or draw(st.sampled_from(RULES))
    return params(
        status_rule=rule,
        tau_high=draw(st.floats(0.5, 1)),
        tau_low=draw(st.floats(0, 0.5)),
        tau_delta=draw(st.floats(0, 1)),
        min_count=draw(st.integers(1, 5)),
    )


@given(probabilities(), thresholds(), st.data())
def test_swapping_responses_swaps_their_labels_and_nothing_else(both, rules, data):
    a, b = both
    swapped = data.draw(arrays(np.bool_, len(a)))

    before = select(a, b, loop=1, params=rules)
    after = select(
        np.where(swapped, b, a), np.where(swapped, a, b), loop=1, params=rules
    )

    assert after.status == before.status
    assert after.chosen.tolist() == before.chosen.tolist()
    assert (after.easy, after.hard) == (before.easy, before.hard)
    flipped = swapped[before.chosen]
    assert (after.a_preferred == (before.a_preferred ^ flipped)).all()


@given(
    st.lists(st.tuples(*[st.integers(-512, 512)] * 2), min_size=16, max_size=16),
    st.integers(-(2**16), 2**16),
    st.booleans(),
    thresholds(),
)
def test_a_constant_added_to_all_rewards_changes_nothing(pairs, shift, scale, rules):
    # Sixteen multiples of 1/64: sums and means are exact in floating point.
    a, b = of(*pairs)
    a, b, constant = a / 64, b / 64, shift / 64

    def selection(one, two):
        calibration = fit(one, two, temperature=scale)
        p_a, p_b = (calibration.probabilities(r) for r in (one, two))
        return select(p_a, p_b, loop=1, params=rules)

    before, after = selection(a, b), selection(a + constant, b + constant)

    assert after.status == before.status
    assert after.chosen.tolist() == before.chosen.tolist()
    assert after.a_preferred.tolist() == before.a_preferred.tolist()


@given(probabilities(), thresholds("schedule"), st.sampled_from([1, 2]), st.data())
def test_stricter_thresholds_select_a_subset(both, loose, status, data):
    loose = loose.model_copy(update={"schedule": (status,), "min_count": 1})
    strict = loose.model_copy(
        update={
            "tau_high": data.draw(st.floats(loose.tau_high, 1)),
            "tau_low": data.draw(st.floats(0, loose.tau_low)),
            "tau_delta": data.draw(st.floats(loose.tau_delta, 1)),
        }
    )

    more = select(*both, loop=1, params=loose).chosen
    fewer = select(*both, loop=1, params=strict).chosen

    assert set(fewer) <= set(more)


@given(probabilities(), thresholds())
def test_the_preferred_response_is_the_more_probable_one(both, rules):
    a, b = both

    selection = select(a, b, loop=1, params=rules)

    preferred = a[selection.chosen] > b[selection.chosen]
    assert selection.a_preferred.tolist() == preferred.tolist()
    assert (a[selection.chosen] != b[selection.chosen]).all()
    assert (np.diff(selection.chosen) > 0).all()


def test_count_takes_status_1_while_enough_pairs_qualify_for_it():
    a, b = of((0.9, 0.1), (0.2, 0.8), (0.99, 0.5))

    selection = select(a, b, loop=1, params=params(min_count=2))

    assert selection.status is Status.EASY
    assert selection.chosen.tolist() == [0, 1]
    assert selection.a_preferred.tolist() == [True, False]


def test_count_falls_back_to_status_2():
    a, b = of((0.9, 0.1), (0.46, 0.9), (0.99, 0.5), (0.5, 0.5))

    selection = select(a, b, loop=1, params=params(min_count=2))

    assert selection.status is Status.HARD
    assert selection.chosen.tolist() == [0, 1, 2]
    assert (selection.easy, selection.hard, selection.needed) == (1, 3, 2)


def test_count_stops_when_too_few_qualify_for_either():
    a, b = of((0.9, 0.1), (0.99, 0.5), (0.5, 0.5))

    selection = select(a, b, loop=1, params=params(min_count=3))

    assert selection.status is Status.STOP
    assert selection.chosen.size == selection.a_preferred.size == 0


def test_per_pair_keeps_what_qualifies_for_either_status():
    a, b = of((0.56, 0.44), (0.5, 0.9), (0.5, 0.6))

    selection = select(a, b, loop=1, params=params(status_rule="per_pair"))

    assert selection.status is Status.PER_PAIR
    assert selection.chosen.tolist() == [0, 1]


def test_per_pair_stops_when_too_few_qualify():
    a, b = of((0.56, 0.44), (0.5, 0.6))

    rules = params(status_rule="per_pair", min_count=2)

    assert select(a, b, loop=1, params=rules).status is Status.STOP


@pytest.mark.parametrize(
    ("loop", "status"), [(1, "1"), (2, "2"), (3, "1"), (4, "1"), (99, "1")]
)
def test_schedule_holds_its_last_status_beyond_its_end(loop, status):
    rules = params(status_rule="schedule", schedule=(1, 2, 1))

    decided = decide_status(5, 5, 5, pool=5, loop=loop, params=rules)

    assert decided == status


def test_schedule_stops_rather_than_take_the_other_status():
    rules = params(status_rule="schedule", schedule=(1,))

    decided = decide_status(0, 5, 5, pool=5, loop=1, params=rules)

    assert decided is Status.STOP


def test_schedule_must_name_a_status():
    with pytest.raises(ValidationError, match="needs a schedule"):
        params(status_rule="schedule", schedule=())


def test_thresholds_of_status_1_are_not_part_of_it():
    a, b = of((0.55, 0.1), (0.9, 0.45), (0.56, 0.44))
    rules = params(status_rule="schedule", schedule=(1,))

    assert select(a, b, loop=1, params=rules).chosen.tolist() == [2]


def test_the_threshold_of_status_2_is_part_of_it():
    a, b = of((0.75, 0.5), (0.74, 0.5))
    rules = params(status_rule="schedule", schedule=(2,), tau_delta=0.25)

    assert select(a, b, loop=1, params=rules).chosen.tolist() == [0]


def test_a_tie_never_qualifies():
    a, b = of((0.5, 0.5), (1.0, 1.0))
    rules = params(status_rule="schedule", schedule=(2,), tau_delta=0)

    assert select(a, b, loop=1, params=rules).status is Status.STOP


def test_rewards_that_are_not_numbers_never_qualify():
    a, b = of((np.nan, 0.1), (0.9, np.nan), (np.nan, np.nan))

    selection = select(a, b, loop=1, params=params(status_rule="per_pair"))

    assert selection.status is Status.STOP


@pytest.mark.parametrize("rule", RULES)
def test_an_empty_pool_stops(rule):
    selection = select(*of(), loop=1, params=params(status_rule=rule))

    assert selection.status is Status.STOP
    assert selection.chosen.tolist() == []


@pytest.mark.parametrize(
    ("pool", "share", "count", "needed"),
    [(0, 0.05, 16, 16), (1000, 0.05, 16, 50), (1001, 0.05, 16, 51), (100, 0.07, 1, 7)],
)
def test_pairs_needed_is_a_share_with_a_floor(pool, share, count, needed):
    assert pairs_needed(pool, params(min_share=share, min_count=count)) == needed


def test_quantile_takes_the_surest_share_and_no_tie():
    a, b = of((0.9, 0.1), (0.6, 0.5), (0.5, 0.5), (0.2, 0.7))
    half = params(status_rule="quantile", quantile=0.5)
    everything = params(status_rule="quantile", quantile=1.0)

    found = select(a, b, loop=1, params=half)

    assert found.status is Status.CONFIDENT
    assert found.chosen.tolist() == [0, 3]
    assert found.a_preferred.tolist() == [True, False]
    assert select(a, b, loop=1, params=everything).chosen.tolist() == [0, 1, 3]


def test_probability_is_that_of_bradley_and_terry():
    a, b = of((0.8, 0.5), (0.8, 0.45), (0.3, 0.7))

    found = select(a, b, loop=1, params=params(status_rule="probability"))

    # σ(logit 0.8 - logit 0.5) is 0.8 itself, which is not above 0.8.
    assert found.chosen.tolist() == [1, 2]
    np.testing.assert_allclose(found.confidence, [0.44 / 0.53, 0.49 / 0.58])


@pytest.mark.parametrize("both", [0.0, 1.0])
def test_of_two_that_are_sure_alike_neither_is_preferred(both):
    assert preference(*of((both, both))).tolist() == [0.5]


def test_balance_takes_as_many_of_each_stratum_the_surest_first():
    a, b = of((0.9, 0.1), (0.8, 0.1), (0.7, 0.1), (0.6, 0.4), (0.9, 0.2))
    strata = np.array([0, 0, 0, 1, 1])

    found = select(a, b, loop=1, params=params(tau_high=0.55), strata=strata)

    assert found.chosen.tolist() == [0, 1, 3, 4]


def test_balance_of_an_empty_side_stops():
    a, b = of((0.9, 0.1), (0.5, 0.5))

    found = select(a, b, loop=1, params=params(), strata=np.array([0, 1]))

    assert found.status is Status.STOP
    assert found.chosen.tolist() == []
