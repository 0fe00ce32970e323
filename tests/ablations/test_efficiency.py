import numpy as np
import pyarrow as pa
import pytest

from ser_kedro.ablations.efficiency import mean_gain, savings, sentence
from ser_kedro.ablations.outcomes import Outcomes
from ser_kedro.evaluation.params import EvaluationParams
from ser_kedro.statistics.intervals import infer

PARAMS = EvaluationParams()
SHARES = (0.01, 0.02, 0.05, 0.1, 0.15, 0.3, 0.6, 1.0)


def level(share):
    """What the seed model reaches: rising in the logarithm of its labels."""
    return 0.3 + 0.3 * np.log(share / SHARES[0])


def curve(simulated, factor, **options):
    """Evolution is as good as ``factor`` times the labels."""
    methods = {("seed", share): level(share) for share in SHARES}
    methods |= {("ser", share): level(share * factor) for share in SHARES}
    return Outcomes(simulated(methods, **options)[0], "demo")


def test_a_planted_saving_is_found(simulated):
    outcomes = curve(simulated, 2.0, prompts=1500, pairs=1, spread=0.0)
    found = {saving.share: saving for saving in savings(outcomes, PARAMS)}
    assert set(found) == set(SHARES[:-1])
    one = found[0.15]
    assert one.low <= 0.3 <= one.high
    assert one.resolved and 0.22 < one.equivalent < 0.4
    assert sentence(one, 2000).endswith("of 2,000 labels.")
    assert "it saves" in sentence(one)


def test_intervals_hold_the_truth_mostly(simulated):
    hits = total = 0
    for seed in range(3):
        outcomes = curve(simulated, 1.5, prompts=200, pairs=1, seed=seed)
        for saving in savings(outcomes, PARAMS):
            if saving.share * 1.5 < 1:
                total += 1
                low = saving.low or 0
                high = saving.high or np.inf
                hits += low <= saving.share * 1.5 <= high
    assert hits / total >= 0.85


def test_the_gain_over_the_whole_curve(simulated):
    better = mean_gain(curve(simulated, 2.0, prompts=600, pairs=1, spread=0.0), PARAMS)
    assert better.verdict() == "a gain"
    none = curve(simulated, 1.0, prompts=600, pairs=1, spread=0.0)
    assert abs(mean_gain(none, PARAMS).value) < 0.02
    differences = [
        float(infer(none.cells({("ser", z): 1, ("seed", z): -1})).value) for z in SHARES
    ]
    assert mean_gain(none, PARAMS).value == pytest.approx(np.mean(differences))


def test_no_saving_is_not_significant(simulated):
    outcomes = curve(simulated, 1.0, prompts=300, pairs=1)
    unresolved = [not saving.resolved for saving in savings(outcomes, PARAMS)]
    assert sum(unresolved) >= len(unresolved) - 1
    one = savings(outcomes, PARAMS)[2]
    assert "is not significant on this test set" in sentence(one, 2000)


def test_a_seed_model_that_was_kept_saves_nothing(simulated):
    table = simulated({("seed", share): level(share) for share in SHARES})[0]
    kept = pa.Table.from_pandas(table.to_pandas().assign(method="ser"), table.schema)
    found = savings(Outcomes(pa.concat_tables([table, kept]), "demo"), PARAMS)
    assert len(found) == len(SHARES) - 1
    assert all(one.same and not one.resolved for one in found)
    assert sentence(found[0]).endswith("makes identical predictions: it saves none.")


def test_evolution_that_does_harm_costs_labels(simulated):
    outcomes = curve(simulated, 0.3, prompts=1000, pairs=2, spread=0.0)
    one = {saving.share: saving for saving in savings(outcomes, PARAMS)}[0.3]
    assert one.resolved and one.high < 0.3
    assert sentence(one).endswith("it costs labels.")


def test_beyond_the_curve_there_is_no_upper_end(simulated):
    outcomes = curve(simulated, 10.0, prompts=500, pairs=1)
    one = {saving.share: saving for saving in savings(outcomes, PARAMS)}[0.3]
    assert one.high is None
    assert "more than was measured" in sentence(one)


def test_one_share_is_no_curve(simulated):
    table, _ = simulated({"seed": 0.5, "ser": 0.6}, prompts=20)
    assert savings(Outcomes(table, "demo"), PARAMS) == []


@pytest.mark.parametrize("crossed", [True, False])
def test_worlds_redrawn_or_not(simulated, crossed):
    outcomes = curve(simulated, 2.0, prompts=200, pairs=1, crossed=crossed, seeds=4)
    assert len(savings(outcomes, PARAMS)) == len(SHARES) - 1
