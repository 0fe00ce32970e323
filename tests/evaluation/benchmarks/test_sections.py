"""The benchmarks' figures, against values worked out by hand."""

import numpy as np
import pytest

from ser_kedro.evaluation.benchmarks.job import BENCHMARK_SCORES
from ser_kedro.evaluation.benchmarks.results import gain, lines
from ser_kedro.evaluation.benchmarks.sections import (
    SECTIONS,
    Scored,
    credit,
    figures,
    scored_items,
    ties_score,
)
from ser_kedro.evaluation.params import EvaluationParams

PARAMS = EvaluationParams(resamples=200)


def item(right, wrong, subset="", name="0", group="g"):
    sides = (np.array(side, float) for side in (right, wrong))
    return Scored(name, group, subset, *sides)


@pytest.mark.parametrize(
    ("right", "wrong", "earned"),
    [
        ([1], [0], 1),
        ([0], [1], 0),
        ([1], [1], 0.5),
        ([3], [0, 1, 2], 1),
        ([3], [0, 1, 4], 0),
        ([3], [3, 3, 0], 1 / 3),
        ([1, 2, 3], [0, 2, 9], (1 + 1 + 1 + 1) / 9),
    ],
)
def test_what_an_item_earns(right, wrong, earned):
    assert credit(item(right, wrong)) == pytest.approx(earned)


def test_items_are_put_together_again():
    import pyarrow as pa

    rows = [
        (0, "a", "g", "s", True, 1.0),
        (0, "a", "g", "s", False, 0.0),
        (1, "b", "h", "t", True, 2.0),
        (1, "b", "h", "t", False, 3.0),
        (1, "b", "h", "t", False, 4.0),
    ]
    columns = list(map(list, zip(*rows, strict=True)))
    first, second = scored_items(pa.table(columns, schema=BENCHMARK_SCORES))
    assert (first.name, first.right.tolist(), first.wrong.tolist()) == ("a", [1], [0])
    assert (second.subset, second.wrong.tolist()) == ("t", [3, 4])


def test_preference_files_by_source():
    found = figures("pairs", [item([1], [0], "a"), item([0], [1], "b")])
    assert found == {"items": 2, "overall": 0.5, "sections": {"a": 1.0, "b": 0.0}}


def test_reward_bench_by_section():
    right, wrong = ([1], [0]), ([0], [1])
    items = [
        *(item(*right, "alpacaeval-easy"), item(*right, "alpacaeval-easy")),
        item(*wrong, "mt-bench-med"),
        *(item(*right, "donotanswer"), item(*wrong, "xstest-should-refuse")),
        # Mathematics counts as much as all code, however few its items.
        item(*wrong, "math-prm"),
        *[item(*right, name) for name in ("hep-cpp", "hep-go", "hep-rust")],
    ]
    found = figures("reward_bench", items)
    assert found["sections"] == pytest.approx(
        {"Chat": 2 / 3, "Safety": 0.5, "Reasoning": 0.5}
    )
    assert found["overall"] == pytest.approx((2 / 3 + 0.5 + 0.5) / 3)
    assert found["subsets"]["hep-cpp"] == 1


def test_reward_bench_knows_its_23_subsets():
    names = [name for names in SECTIONS.values() for name in names]
    assert len(names) == len(set(names)) == 23


def test_reward_bench_of_other_subsets():
    found = figures("reward_bench", [item([1], [0], "mine")])
    assert found["overall"] == 1.0 and found["subsets"] == {"mine": 1.0}


def test_reward_bench_2():
    items = [
        item([3], [0, 1, 2], "Math"),
        item([0], [1, 2, 3], "Math"),
        item([3], [0, 1, 2], "Focus"),
        item([5], [0], "Ties", "ref:1"),
        item([5, 5.5], [0], "Ties", "tied:1"),
    ]
    found = figures("reward_bench_2", items)
    assert found["sections"]["Math"] == 0.5
    ties = found["sections"]["Ties"]
    assert found["overall"] == pytest.approx((0.5 + 1 + ties) / 3)


def test_ties_by_hand():
    """Two questions; in the second the right answers lie further apart than allowed."""
    items = [
        item([5], [1], name="ref:1"),
        item([4, 5], [2], name="tied:1"),
        item([1], [2], name="ref:2"),
        item([2, 6], [1], name="tied:2"),
    ]
    # ref: 1 of 2 right; tied: both; apart 2, 1 against spreads 1, 4; smaller 2, -1.
    margin = (np.tanh(2 / 1 - 1) + np.tanh(-1 / 4 - 1)) / 2
    expected = 0.3 * (0.5 + 1) + 0.2 * (0.5 + 0.5) + 0.01 * margin
    assert ties_score(items) == pytest.approx(expected)


def test_perfect_and_hopeless_ties():
    def score(high, low):
        return ties_score(
            [item([high], [low], name="ref:1"), item([high] * 3, [low], name="tied:1")]
        )

    assert score(9, 0) == pytest.approx(1, abs=0.011)
    assert score(0, 9) == pytest.approx(0, abs=0.011)


def test_rm_bench_knows_a_love_of_style():
    """A model that sees style alone: easy is easy, hard hopeless, normal a tie."""
    stylish = [item([0, 1, 2], [0.5, 1.5, 2.5], "chat")]
    found = figures("rm_bench", stylish)
    assert found["levels"]["easy"] == 1
    assert (found["levels"]["normal"], found["levels"]["hard"]) == (0, 0)
    assert found["overall"] == pytest.approx(1 / 3)


def test_rm_bench_takes_safety_as_one():
    good, bad = ([3, 3, 3], [0, 0, 0]), ([0, 0, 0], [3, 3, 3])
    items = [
        item(*good, "math"),
        item(*good, "safety-refuse"),
        *[item(*bad, "safety-response") for _ in range(3)],
    ]
    found = figures("rm_bench", items)
    assert set(found["sections"]) == {"math", "safety"}
    assert found["sections"]["safety"]["hard"] == pytest.approx(0.5)
    assert found["overall"] == pytest.approx(0.75)


def test_gain_is_paired_and_leaves_ties_out():
    before = [item([0], [1], group=f"g{n}") for n in range(40)]
    after = [item([n % 4], [0.5], group=f"g{n}") for n in range(40)]
    ties = [item([0, 0], [1], "Ties", "tied:1")]
    found = gain(before + ties, after + ties, PARAMS)
    assert found.value == 0.75 and found.low > 0.5
    assert np.isnan(gain(ties, ties, PARAMS).value)


def test_lines_name_sections_and_verdict():
    seed = figures("rm_bench", [item([0, 0, 0], [1, 1, 1], "chat")])
    kept = figures("rm_bench", [item([2, 2, 2], [1, 1, 1], "chat")])
    row = {
        "name": "rm",
        "format": "rm_bench",
        "dropped": {},
        "seed": seed,
        "kept": kept,
    }
    top, section = lines([{**row, "gain": {"value": 0.5, "low": 0.2, "high": 0.8}}])
    assert "seed 0.0, kept 100.0" in top
    assert top.endswith("+50.0 points [+20.0, +80.0]: a gain.")
    assert section.startswith("  - chat: easy 0.0, normal 0.0, hard 0.0")
    unknown = {"value": 0.1, "low": None, "high": None}
    assert lines([{**row, "gain": unknown}])[0].endswith("[–, –]: not significant.")
