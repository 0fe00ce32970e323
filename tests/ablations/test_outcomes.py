import numpy as np
import pyarrow as pa
import pytest

from ser_kedro.ablations.outcomes import Outcomes, by_data
from ser_kedro.errors import DataError

LEVELS = {"seed": 0.4, "ser": 0.5, ("seed", 0.3): 0.8}


@pytest.fixture
def table(simulated):
    return simulated(LEVELS, prompts=20)[0]


def test_methods_and_shares(table):
    outcomes = Outcomes(table, "demo")
    assert outcomes.keys == [("seed", 0.15), ("seed", 0.3), ("ser", 0.15)]
    assert outcomes.shares("seed") == [0.15, 0.3]
    assert outcomes.seeds(("seed", 0.15), ("ser", 0.15)) == [0, 1, 2, 3, 4]


def test_cells_hold_the_accuracy(table):
    frame = table.to_pandas()
    rows = frame[(frame["method"] == "ser") & (frame["share"] == 0.15)]
    cells = Outcomes(table, "demo").cells({("ser", 0.15): 1})
    right = (rows["chosen_reward"] > rows["rejected_reward"]).mean()
    assert cells.totals.sum() / cells.sizes.sum() == pytest.approx(right)
    assert cells.sizes.shape == (5, 20) and cells.crossed


def test_a_tie_counts_half(table):
    frame = table.to_pandas()
    frame["chosen_reward"] = 0.0
    tied = Outcomes(pa.Table.from_pandas(frame, table.schema), "demo")
    cells = tied.cells({("ser", 0.15): 1})
    assert cells.totals.sum() / cells.sizes.sum() == 0.5


def test_differences_are_pair_by_pair(table):
    outcomes = Outcomes(table, "demo")
    same = outcomes.cells({("ser", 0.15): 1}).totals
    other = outcomes.cells({("seed", 0.15): 1}).totals
    both = outcomes.cells({("ser", 0.15): 1, ("seed", 0.15): -1})
    np.testing.assert_allclose(both.totals, same - other)


def test_order_of_rows_means_nothing(table):
    rng = np.random.default_rng(0)
    mixed = table.take(pa.array(rng.permutation(table.num_rows)))
    one, other = (Outcomes(t, "demo").cells({("ser", 0.15): 1}) for t in (table, mixed))
    np.testing.assert_array_equal(one.totals, other.totals)


def test_worlds_that_are_redrawn_are_nested(simulated):
    cells = Outcomes(simulated(LEVELS, prompts=20, crossed=False)[0], "demo").cells(
        {("ser", 0.15): 1}
    )
    assert cells.sizes.shape == (5, 100) and not cells.crossed


def test_only_draws_that_all_arms_have(table):
    frame = table.to_pandas()
    less = frame[~((frame["method"] == "ser") & (frame["seed"] == 2))]
    outcomes = Outcomes(pa.Table.from_pandas(less, table.schema), "demo")
    assert outcomes.seeds(("seed", 0.15), ("ser", 0.15)) == [0, 1, 3, 4]


def test_data_sets_are_apart(table, simulated):
    other = simulated(LEVELS, data="other", prompts=10)[0]
    found = by_data(pa.concat_tables([table, other]))
    assert [one.data for one in found] == ["demo", "other"]
    assert found[1].cells({("ser", 0.15): 1}).sizes.shape == (5, 10)


def test_what_two_tables_share_counts_once(table):
    once, twice = (Outcomes(t, "demo") for t in (table, pa.concat_tables([table] * 2)))
    key = {("ser", 0.15): 1.0}
    np.testing.assert_array_equal(once.cells(key).totals, twice.cells(key).totals)


def test_a_pair_that_is_there_twice(table):
    other = table.to_pandas().assign(chosen_reward=-1.0)
    both = [table, pa.Table.from_pandas(other, table.schema)]
    with pytest.raises(DataError, match="has a pair twice, with other rewards"):
        Outcomes(pa.concat_tables(both), "demo")


def test_some_rows_alone(table):
    outcomes = Outcomes(table, "demo")
    part = outcomes.where((outcomes.frame["source"] == "s1").to_numpy())
    assert part.cells({("ser", 0.15): 1}).sizes.shape == (5, 10)
    assert part.keys == outcomes.keys


def test_a_method_that_lacks_pairs(table):
    frame = table.to_pandas()
    ser = frame[(frame["method"] == "ser") & (frame["seed"] == 1)]
    less = pa.Table.from_pandas(frame.drop(ser.index[:3]), table.schema)
    with pytest.raises(DataError, match=r"ser at share 0\.15, seed 1 was not tested"):
        Outcomes(less, "demo")


def test_methods_without_a_seed_in_common(table):
    frame = table.to_pandas()
    keep = (frame["method"] == "seed") == (frame["seed"] < 2)
    apart = Outcomes(pa.Table.from_pandas(frame[keep], table.schema), "demo")
    with pytest.raises(DataError, match="no seed in common of ser at 0.15, seed"):
        apart.cells({("ser", 0.15): 1, ("seed", 0.15): -1})
