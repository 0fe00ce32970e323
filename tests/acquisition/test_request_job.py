"""The table of label requests, from tables of scores."""

import math
from functools import partial

import pytest

from ser_kedro.acquisition.params import AcquisitionParams
from ser_kedro.acquisition.request_job import REQUESTS, RequestJob
from ser_kedro.errors import ParameterError
from ser_kedro.launch.executor import run
from ser_kedro.models.calibration import Calibration
from ser_kedro.preferences.schema import LABELED, UNLABELED
from ser_kedro.store.tables import read_table

MARGINS = [4.0, 0.5, -3.0, -0.1, 2.0, 1.0]


@pytest.fixture
def ask(pool, scores):
    def make(*voters, temperature=1.0, seed=0, pool=pool, labelled=(), **params):
        job = RequestJob(
            pairs=pool,
            scores=tuple(scores(f"s{n}", each) for n, each in enumerate(voters)),
            calibrations=(Calibration(7.0, temperature),) * len(voters),
            labelled=labelled,
            params=AcquisitionParams(**{"random_share": 0.0, **params}),
            seed=seed,
        )
        return read_table(run(job)["label_requests"])

    return make


def numbers(requests):
    return [int(name, 16) for name in requests["pair_id"].to_pylist()]


def test_the_pair_closest_to_a_tie_of_each_prompt(ask, pool_rows):
    requests = ask(MARGINS, temperature=2.0)
    assert requests.schema.equals(REQUESTS)
    assert numbers(requests) == [3, 1, 5]
    first = requests.to_pylist()[0]
    p = 1 / (1 + math.exp(0.1 / 2.0))
    assert first["p_a"] == pytest.approx(p)
    assert first["score"] == pytest.approx(2 * p)
    assert (first["rank"], first["random"]) == (1, False)
    assert {name: first[name] for name in pool_rows[3]} == pool_rows[3]


def test_all_pairs_of_a_prompt_where_that_is_wanted(ask):
    assert numbers(ask(MARGINS, one_per_prompt=False)) == [3, 1, 5, 4, 2, 0]
    assert numbers(ask(MARGINS, one_per_prompt=False, count=2)) == [3, 1]


def test_what_voters_disagree_about(ask):
    sure, other = [4.0, 0.0, 3.0, 0.0, 2.0, 0.0], [-4.0, 0.0, -3.0, 0.0, -2.0, 0.0]
    assert numbers(ask(sure, other, by="disagreement")) == [0, 2, 4]


def test_disagreement_needs_two(ask):
    with pytest.raises(ParameterError, match=r"by=disagreement: .*reward.voters=3"):
        ask(MARGINS, by="disagreement")


def test_no_copy_where_pairs_are_spread(ask, table, pool_rows):
    """The pair that is nearly as undecided says the same, the answers swapped."""
    copied = {
        "prompt": pool_rows[3]["prompt"],
        "response_a": pool_rows[3]["response_b"].upper(),
        "response_b": pool_rows[3]["response_a"],
    }
    pool = table(
        "copied", [*pool_rows[:1], pool_rows[1] | copied, *pool_rows[2:]], UNLABELED
    )
    asked = partial(ask, MARGINS, pool=pool, one_per_prompt=False)
    assert numbers(asked(count=2)) == [3, 1]
    spread = numbers(asked(count=2, spread="k_center"))
    assert spread[0] == 3 and spread[1] != 1
    everything = numbers(asked(spread="k_center"))
    assert everything[-1] == 1 and sorted(everything) == list(range(6))


def test_no_copy_of_what_has_a_label_where_pairs_are_spread(ask, table, pool_rows):
    """Which response was preferred makes no difference."""

    def labelled(chosen, rejected):
        row = pool_rows[3]
        kept = {name: row[name] for name in ("pair_id", "group", "prompt", "source")}
        both = {"chosen": row[chosen], "rejected": row[rejected]}
        return table(f"labelled-{chosen}", [kept | both], LABELED)

    asked = partial(ask, MARGINS, spread="k_center", one_per_prompt=False)
    assert numbers(asked(count=1)) == [3]
    sides = ("response_a", "response_b")
    one, two = labelled(*sides), labelled(*sides[::-1])
    assert one.fingerprint != two.fingerprint
    found = numbers(asked(labelled=(one,)))
    assert found[-1] == 3 and sorted(found) == list(range(6))
    assert numbers(asked(labelled=(two,))) == found


def test_one_of_each_prompt_where_pairs_are_spread(ask, pool_rows):
    asked = ask(MARGINS, spread="k_center", count=5)
    groups = asked["group"].to_pylist()
    assert len(groups) == len({row["group"] for row in pool_rows})
    assert len(set(groups)) == len(groups)


@pytest.mark.parametrize("by", ["margin", "random"])
def test_the_seed_alone_draws(ask, by):
    def asked(seed):
        found = ask(MARGINS, by=by, random_share=1.0, seed=seed, count=2)
        assert found["random"].to_pylist() == [True, True]
        return numbers(found)

    assert asked(1) == asked(1)
    assert len({tuple(asked(seed)) for seed in range(4)}) > 1
