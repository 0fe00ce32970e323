import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ser_kedro.ablations.compare import compare, gap_closed
from ser_kedro.ablations.outcomes import Outcomes
from ser_kedro.evaluation.params import EvaluationParams
from ser_kedro.statistics.corrections import holm
from ser_kedro.statistics.intervals import Cells, Components, infer
from ser_kedro.statistics.power import Guess, before, smallest_difference
from ser_kedro.statistics.ratio import fieller

PARAMS = EvaluationParams()
METHODS = {"random_labels": 0.0, "seed": 0.6, "ser": 0.85, "leaky": 1.0, "full": 1.4}


@pytest.fixture(scope="module")
def methods(simulated):
    table, truth = simulated(METHODS, prompts=400)
    return {row.method: row for row in compare(Outcomes(table, "demo"), PARAMS)}, truth


def test_accuracies_hold_the_truth(methods):
    rows, truth = methods
    assert set(rows) == set(METHODS)
    for name, row in rows.items():
        assert row.accuracy.low <= truth[name, 0.15] <= row.accuracy.high
        assert row.accuracy.low < row.accuracy.value < row.accuracy.high


def test_a_planted_gain_is_found(methods):
    rows, truth = methods
    assert rows["ser"].verdict == "gain"
    gain = truth["ser", 0.15] - truth["seed", 0.15]
    assert rows["ser"].difference.low <= gain <= rows["ser"].difference.high


def test_a_planted_loss_is_found(methods):
    assert methods[0]["random_labels"].verdict == "loss"


def test_the_seed_is_not_compared_with_itself(methods):
    seed = methods[0]["seed"]
    assert (seed.difference, seed.p, seed.verdict, seed.gap_closed) == (None,) * 4


def test_gap_closed_holds_the_truth(methods):
    rows, truth = methods
    low, high = truth["seed", 0.15], truth["full", 0.15]
    share = (truth["ser", 0.15] - low) / (high - low)
    gap = rows["ser"].gap_closed
    assert gap.low <= share <= gap.high
    assert 0 < gap.low < gap.value < gap.high < 1
    assert rows["full"].gap_closed.value == 1
    assert rows["random_labels"].gap_closed.high < 0


def test_no_difference_is_never_called_a_gain(simulated):
    verdicts = []
    for seed in range(20):
        table, _ = simulated({"seed": 0.6, "ser": 0.6}, prompts=60, seed=seed)
        (row,) = (r for r in compare(Outcomes(table, "demo"), PARAMS) if r.p)
        verdicts.append(row.verdict)
        if not row.difference.excludes_zero:
            assert row.verdict == "not significant"
    assert verdicts.count("not significant") >= 17


def test_one_of_many_chance_findings_is_not_a_gain(simulated):
    """With ten methods that do nothing, some interval excludes zero now and then."""
    names = {f"nothing_{n}": 0.6 for n in range(10)}
    excluded = gains = 0
    for seed in range(15):
        table, _ = simulated({"seed": 0.6, **names}, prompts=60, seed=seed)
        rows = [r for r in compare(Outcomes(table, "demo"), PARAMS) if r.p is not None]
        assert all(row.holm >= row.p for row in rows)
        excluded += sum(row.difference.excludes_zero for row in rows)
        gains += sum(row.verdict != "not significant" for row in rows)
    assert excluded > gains
    assert gains <= 2


def test_a_method_that_kept_the_seed_is_not_significant(simulated):
    table, _ = simulated({"seed": 0.6}, prompts=30)
    frame = table.to_pandas()
    again = frame.assign(method="ser")
    import pandas as pd
    import pyarrow as pa

    both = pa.Table.from_pandas(pd.concat([frame, again]), table.schema)
    row = {r.method: r for r in compare(Outcomes(both, "demo"), PARAMS)}["ser"]
    assert (row.difference.value, row.difference.low, row.difference.high) == (0, 0, 0)
    assert row.verdict == "not significant" and row.same
    assert row.smallest is None


def test_an_accuracy_stays_between_0_and_1(simulated):
    table, _ = simulated({"seed": 0.6}, prompts=2, seeds=2, spread=0.5, seed=3)
    (row,) = compare(Outcomes(table, "demo"), PARAMS)
    assert (row.accuracy.low, row.accuracy.high) == (0, 1)


def test_no_gap_no_share_of_it(simulated):
    table, _ = simulated({"seed": 0.6, "ser": 0.62, "full": 0.63}, prompts=60)
    assert gap_closed(Outcomes(table, "demo"), ("ser", 0.15), PARAMS) is None


def test_without_full_labels_there_is_no_gap(simulated):
    table, _ = simulated({"seed": 0.6, "ser": 0.9}, prompts=30)
    assert gap_closed(Outcomes(table, "demo"), ("ser", 0.15), PARAMS) is None


def test_fieller_against_its_formula():
    """One spread, so that variances are those of the prompts and freedom is fixed."""
    rng = np.random.default_rng(0)
    whole = 1 + 0.8 * rng.normal(size=(1, 60))
    part = 0.4 * whole + 0.5 * rng.normal(size=(1, 60))
    ones = np.ones((1, 60))
    found = fieller(Cells(part, ones), Cells(whole, ones), 0.95)
    from scipy.stats import t

    a, b = part.mean(), whole.mean()
    cov = np.cov(part[0], whole[0]) / 60
    q = t.ppf(0.975, 59) ** 2
    A, B, C = b**2 - q * cov[1, 1], a * b - q * cov[0, 1], a**2 - q * cov[0, 0]
    root = math.sqrt(B**2 - A * C)
    assert (found.low, found.high) == pytest.approx(((B - root) / A, (B + root) / A))
    assert found.value == pytest.approx(a / b)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9]) == [0.9]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_never_lowers_a_p_and_keeps_their_order(values):
    corrected = holm(values)
    assert all(c >= v for c, v in zip(corrected, values, strict=True))
    assert max(corrected) <= 1
    order = np.argsort(values, kind="stable")
    assert (np.diff(np.array(corrected)[order]) >= 0).all()


def test_the_smallest_difference_is_found_as_often_as_it_says(simulated):
    """A difference of just that size, planted 200 times, is found in about 80 %."""
    rng = np.random.default_rng(0)
    known = Components(seed=0.01**2, prompt=0.0, rest=0.15)
    seeds, prompts = 5, 200
    contrast = known.contrast(seeds, prompts, crossed=True)
    planted = smallest_difference(contrast, PARAMS)
    shape = (400, seeds, prompts)
    values = (
        planted
        + 0.01 * rng.normal(size=(400, seeds, 1))
        + np.sqrt(0.15) * rng.normal(size=shape)
    )
    found = infer(Cells(values, np.ones(shape[1:]))).p_value < 0.05
    assert 0.72 <= found.mean() <= 0.88


def test_more_comparisons_and_fewer_draws_show_less():
    known = Guess().components(2)
    small, family = (
        smallest_difference(known.contrast(5, 200, crossed=True), PARAMS, count)
        for count in (1, 9)
    )
    few = smallest_difference(known.contrast(3, 200, crossed=True), PARAMS)
    assert small < family
    assert small < few


def test_power_is_said_before_a_comparison():
    groups = np.repeat([f"g{n}" for n in range(136)], 3)
    said = before(groups, seeds=5, comparisons=9, crossed=True, params=PARAMS)
    assert said.startswith("408 test pairs of 136 prompts and 5 seeds can show")
    assert "among 9 comparisons; by the guess that methods disagree on 20%" in said
    pilot = Components(0.0, 0.0, 0.1)
    told = before(
        groups, seeds=5, comparisons=9, crossed=True, params=PARAMS, pilot=pilot
    )
    assert told.endswith("by the variances measured before.")
    assert said != told
