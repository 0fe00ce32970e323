"""Intervals over seeds and prompts, against what they promise."""

import numpy as np
import pytest
from scipy.stats import norm

from ser_kedro.statistics.intervals import Cells, Components, infer, of_their_own
from ser_kedro.statistics.ratio import fieller

TABLES, PROMPTS, PAIRS, DRAWS = 500, 150, 2, 5
LEVELS = (0.6, 0.75, 1.1)


def tables(levels, *, seeds, spread, prompt, crossed, prompts=PROMPTS):
    """Sums of right answers of methods of known accuracy, and these accuracies."""
    rng = np.random.default_rng(1)
    worlds = 1 if crossed else seeds
    shared = prompt * rng.standard_normal((TABLES, worlds, prompts, 1), np.float32)
    shared = shared + 0.7 * rng.standard_normal(
        (TABLES, worlds, prompts, PAIRS), np.float32
    )
    sums = []
    for level in levels:
        own = spread * rng.standard_normal((TABLES, seeds, 1, 1), np.float32)
        noise = rng.standard_normal((TABLES, seeds, prompts, PAIRS), np.float32)
        sums.append((level + own + shared + noise > 0).sum(-1).astype(float))
    spread = np.sqrt(1 + 0.7**2 + spread**2 + prompt**2)
    return sums, [float(norm.cdf(level / spread)) for level in levels]


def cells(totals, crossed):
    """The same as cells; a spread with its own test set gets its own columns."""
    seeds, prompts = totals.shape[-2:]
    if crossed:
        return Cells(totals, np.full((seeds, prompts), float(PAIRS)))
    place = np.kron(np.eye(seeds), np.ones(prompts))
    return Cells(np.tile(totals, seeds) * place, PAIRS * place)


def covered(contrast, truth):
    low, high = contrast.bounds(0.95)
    return np.mean((low <= truth) & (truth <= high))


DESIGNS = [
    pytest.param(dict(seeds=5, spread=0.0, prompt=0.5, crossed=True), id="equal"),
    pytest.param(dict(seeds=5, spread=0.05, prompt=0.5, crossed=True), id="crossed"),
    pytest.param(dict(seeds=5, spread=0.2, prompt=0.5, crossed=True), id="differing"),
    pytest.param(dict(seeds=10, spread=0.1, prompt=0.5, crossed=True), id="ten"),
    pytest.param(dict(seeds=5, spread=0.05, prompt=0.5, crossed=False), id="nested"),
    pytest.param(dict(seeds=1, spread=0.0, prompt=0.5, crossed=True), id="one"),
]


@pytest.mark.parametrize("design", DESIGNS)
def test_coverage_over_500_tables(design):
    (seed, ser, _), (low, high, _) = tables(LEVELS, **design)
    crossed = design["crossed"]
    assert 0.92 <= covered(infer(cells(ser, crossed)), high) <= 0.98
    assert 0.92 <= covered(infer(cells(ser - seed, crossed)), high - low) <= 0.98


def test_coverage_of_the_gap_closed():
    (seed, ser, full), truth = tables(
        LEVELS, seeds=5, spread=0.05, prompt=0.5, crossed=True, prompts=100
    )
    share = (truth[1] - truth[0]) / (truth[2] - truth[0])
    hits = 0
    for one in range(TABLES):
        found = fieller(
            cells(ser[one] - seed[one], True), cells(full[one] - seed[one], True), 0.95
        )
        assert found.low <= found.value <= found.high
        hits += found.low <= share <= found.high
    assert 0.92 <= hits / TABLES <= 0.98


def test_a_bootstrap_of_prompts_alone_covers_too_rarely():
    (_, ser, _), (_, truth, _) = tables(
        LEVELS, seeds=5, spread=0.2, prompt=0.5, crossed=True
    )
    pooled = Cells(ser.sum(axis=1, keepdims=True), np.full((1, PROMPTS), 10.0))
    assert covered(infer(pooled), truth) < 0.85


def test_false_gains_are_as_rare_as_promised():
    (one, other), _ = tables((0.6, 0.6), seeds=5, spread=0.1, prompt=0.5, crossed=True)
    p = infer(cells(other - one, True)).p_value
    assert 0.02 <= np.mean(p < 0.05) <= 0.08


def test_one_draw_is_the_prompts_alone():
    totals = np.array([[2.0, 0.0, 1.0, 2.0]])
    found = infer(Cells(totals, np.full((1, 4), 2.0)))
    assert found.value == pytest.approx(5 / 8)
    means = totals[0] / 2
    assert found.error == pytest.approx(means.std(ddof=1) / 2)
    assert found.freedom == 3


def test_one_prompt_resolves_nothing():
    found = infer(Cells(np.array([[1.0], [2.0]]), np.full((2, 1), 2.0)))
    assert np.isnan(found.bounds(0.95)[0])


def test_equal_answers_are_a_point():
    found = infer(Cells(np.zeros((5, 20)), np.ones((5, 20))))
    assert found.estimate(0.95).low == found.estimate(0.95).high == 0
    assert found.p_value == 1


def test_nested_is_students_t_over_draws():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 3, (5, 40)).astype(float)
    found = infer(cells(values, False))
    means = values.mean(axis=1) / PAIRS
    assert found.value == pytest.approx(means.mean())
    assert found.error == pytest.approx(means.std(ddof=1) / np.sqrt(5))
    assert found.freedom == 4


def test_shared_prompts_of_test_sets_that_overlap_count():
    """Half of the prompts are everybody's: less is known than by five whole sets."""
    rng = np.random.default_rng(0)
    own = np.kron(np.eye(5), np.ones(20))
    sizes = np.hstack([np.ones((5, 20)), own])
    common = rng.normal(size=20) * 3
    totals = np.hstack([np.tile(common, (5, 1)), own * rng.normal(size=(5, 100))])
    assert not Cells(totals, sizes).crossed
    joint = infer(Cells(totals, sizes)).error
    by_seed = (totals.sum(axis=1) / 40).std(ddof=1) / np.sqrt(5)
    assert joint > 1.5 * by_seed


def test_components_are_found():
    rng = np.random.default_rng(0)
    spread, prompt, rest = 0.03, 0.2, 0.3
    found = []
    for _ in range(200):
        values = (
            spread * rng.normal(size=(8, 1))
            + prompt * rng.normal(size=(1, 60))
            + rest * rng.normal(size=(8, 60))
        )
        one = Components.of(Cells(values, np.ones_like(values)))
        found.append([one.seed, one.prompt, one.rest])
    means = np.mean(found, axis=0)
    assert means[1:] == pytest.approx([prompt**2, rest**2], rel=0.1)
    assert means[0] == pytest.approx(spread**2, rel=0.5)


def test_components_foretell_the_error_of_a_design():
    found = []
    for crossed in (True, False):
        (seed, ser, _), _ = tables(
            LEVELS, seeds=5, spread=0.15, prompt=0.5, crossed=crossed
        )
        pilot = np.mean(
            [
                [c.seed, c.prompt, c.rest]
                for c in (
                    Components.of(
                        Cells(
                            cells(one, crossed).totals / PAIRS,
                            cells(one, crossed).sizes / PAIRS,
                        )
                    )
                    for one in (ser - seed)[:100]
                )
            ],
            axis=0,
        )
        foretold = Components(*pilot).contrast(5, PROMPTS, crossed=crossed)
        measured = (ser - seed).sum(axis=(1, 2)).std() / (5 * PROMPTS * PAIRS)
        found.append(float(foretold.error) / measured)
    assert found == pytest.approx([1, 1], abs=0.12)


def test_draws_with_prompts_of_their_own_are_the_sample():
    rng = np.random.default_rng(3)
    values = [rng.normal(mean, 1.0, 100) for mean in (0.2, 0.5, 0.9)]
    contrast = infer(of_their_own(values))
    means = [spread.mean() for spread in values]
    assert contrast.value == pytest.approx(np.mean(means))
    assert contrast.error == pytest.approx(np.std(means, ddof=1) / np.sqrt(3))
    assert contrast.freedom == pytest.approx(2)
