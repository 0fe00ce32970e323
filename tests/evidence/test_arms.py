import pytest

from ser_kedro.evidence.arms import LeakyFilterJob, TrueLabelsJob
from ser_kedro.launch.run import run
from ser_kedro.launch.table import read_table
from ser_kedro.preferences.schema import AUDIT, LABELED
from ser_kedro.reward.select import SELECTED


@pytest.fixture
def pool(unlabeled):
    return read_table(unlabeled).to_pylist()


@pytest.fixture
def audit(table, pool, train_rows):
    """The truth, in another order than the pool."""
    chosen = {row["pair_id"]: row["chosen"] for row in train_rows}
    rows = [
        {
            "pair_id": row["pair_id"],
            "a_is_chosen": row["response_a"] == chosen[row["pair_id"]],
        }
        for row in reversed(pool)
    ]
    assert 0 < sum(row["a_is_chosen"] for row in rows) < len(rows)
    return table("audit", rows, AUDIT)


@pytest.fixture
def selection(table, pool):
    """Six self-labels, all for response a."""
    rows = [
        dict.fromkeys(SELECTED.names)
        | {"pair_id": row["pair_id"], "a_preferred": True}
        | {"chosen": row["response_a"], "rejected": row["response_b"]}
        for row in pool[:6]
    ]
    reference = table("selection", rows, SELECTED)
    return reference.model_copy(update={"metrics": {"status": "1"}})


def test_true_labels_are_those_of_the_people(unlabeled, audit, train_rows):
    labeled = run(TrueLabelsJob(pairs=unlabeled, audit=audit))["labeled"]
    found = read_table(labeled)
    assert found.schema.equals(LABELED)
    truth = {row["pair_id"]: row for row in train_rows}
    rows = found.to_pylist()
    assert [row["pair_id"] for row in rows] == read_table(unlabeled)[
        "pair_id"
    ].to_pylist()
    for row in rows:
        known = truth[row["pair_id"]]
        for name in ("prompt", "chosen", "rejected"):
            assert row[name] == known[name]


def test_leaky_filter_drops_what_people_disagree_with(selection, audit):
    truth = {r["pair_id"]: r["a_is_chosen"] for r in read_table(audit).to_pylist()}
    kept = run(LeakyFilterJob(selection=selection, audit=audit))["selection"]
    before, after = read_table(selection).to_pylist(), read_table(kept).to_pylist()
    assert after == [row for row in before if truth[row["pair_id"]]]
    assert 0 < len(after) < len(before)
    assert kept.rows == len(after)


def test_leaky_filter_keeps_the_status(selection, audit):
    kept = run(LeakyFilterJob(selection=selection, audit=audit))["selection"]
    assert kept.metrics["status"] == "1"
    assert read_table(kept).schema.equals(SELECTED)


def test_leaky_filter_may_leave_nothing(table, selection, pool, audit):
    truth = {r["pair_id"]: r["a_is_chosen"] for r in read_table(audit).to_pylist()}
    wrong = [
        row | {"a_preferred": not truth[row["pair_id"]]}
        for row in read_table(selection).to_pylist()
    ]
    reference = table("wrong", wrong, SELECTED)
    kept = run(LeakyFilterJob(selection=reference, audit=audit))["selection"]
    assert kept.rows == 0
    assert read_table(kept).num_rows == 0


def test_arms_do_not_share_a_fingerprint(selection, unlabeled, audit):
    leaky = LeakyFilterJob(selection=selection, audit=audit)
    true = TrueLabelsJob(pairs=unlabeled, audit=audit)
    assert leaky.fingerprint != true.fingerprint
