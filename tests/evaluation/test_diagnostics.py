import numpy as np
import pyarrow as pa
import pytest

from ser_kedro.evaluation.diagnostics import (
    AFTER,
    BEFORE,
    Measured,
    diagnostics,
    figures,
    gold_gap,
    lines,
)
from ser_kedro.evaluation.params import EvaluationParams
from ser_kedro.preferences.demo_world.world import WorldParams, draw_pairs
from ser_kedro.preferences.schema import LABELED
from ser_kedro.store.json_io import plain
from tests.conftest import labeled_rows

PARAMS = EvaluationParams(resamples=200, bins=5)
WORLD = WorldParams(pairs=10, test_pairs=400, phrases_per_response=(4, 10))


@pytest.fixture(scope="module")
def pairs():
    rows = labeled_rows(draw_pairs(WORLD, "test"))
    for number, row in enumerate(rows):
        row["source"] = f"s{number % 2}"
    return pa.Table.from_pylist(rows, LABELED)


@pytest.fixture(scope="module")
def models(pairs):
    """A seed that knows little and likes length; a kept model four times too sure."""
    rng = np.random.default_rng(0)
    gap = gold_gap(WORLD, pairs)
    texts = [pairs[name].to_pylist() for name in ("chosen", "rejected")]
    longer = np.array([len(a) - len(b) for a, b in zip(*texts, strict=True)])
    zero = np.zeros(len(gap))
    seed = Measured(0.2 * gap + longer / 20 + 0.5 * rng.normal(size=len(gap)), zero)
    kept = Measured(4 * (1.5 * gap + rng.normal(size=len(gap))), zero, temperature=4.0)
    return {0: seed, 2: kept}


@pytest.fixture(scope="module")
def found(models, pairs):
    return plain(diagnostics(models, 2, pairs, PARAMS, WORLD))


def test_a_row_a_loop_that_trained(found):
    assert [loop["loop"] for loop in found["loops"]] == [0, 2]
    assert found["kept_loop"] == 2


def test_accuracy_of_every_loop_by_source(found, models):
    for loop in found["loops"]:
        rows = loop["accuracy_by_source"]
        assert [(row["source"], row["pairs"]) for row in rows] == [
            ("s0", 200),
            ("s1", 200),
        ]
        mean = np.mean([row["accuracy"] for row in rows])
        assert mean == pytest.approx(models[loop["loop"]].right.mean())


def test_the_planted_length_bias_is_the_seeds(found):
    seed, kept = (loop["length"]["bias"] for loop in found["loops"])
    assert seed == "towards longer"
    assert kept != "towards longer"


def test_the_planted_miscalibration_is_mended(found):
    curves = found["loops"][1]["calibration"]
    assert curves[BEFORE]["miscalibrated"]
    assert curves[AFTER]["ece"] < curves[BEFORE]["ece"] / 2
    assert curves[AFTER]["temperature"] == 4.0


def test_pairs_that_are_alike_in_gold_are_hard(found):
    assert found["difficulty_measure"] == "gap in gold reward"
    accuracies = [row["accuracy"] for row in found["difficulty"]]
    assert accuracies[0] < 0.75 < accuracies[-1]


def test_elsewhere_the_seeds_margin_says_what_is_hard(models, pairs):
    other = diagnostics(models, 2, pairs, PARAMS)
    assert other["difficulty_measure"] == "margin of the seed model"
    assert sum(row["pairs"] for row in other["difficulty"]) == 400


def test_gold_gap_is_negative_where_the_label_is_wrong(pairs):
    gap = gold_gap(WORLD, pairs)
    assert 0.02 < (gap < 0).mean() < 0.4


def test_lines_speak_of_seed_and_kept(found):
    text = lines(found)
    assert [line.split(":")[0] for line in text] == [
        *("- Calibration (loop 0)", "- Length (loop 0)"),
        *("- Calibration (loop 2)", "- Length (loop 2)"),
    ]
    assert text[1].endswith("bias towards longer.")


def test_figures(models, pairs):
    reliability, length = figures(models[2], pairs, PARAMS)
    assert [line.name.split(" (")[0] for line in reliability.data] == [
        *("calibrated", BEFORE, AFTER),
    ]
    assert len(length.data[0].x) == PARAMS.bins


def test_plain_leaves_what_json_can_say():
    value = {"a": [1.0, float("nan")], "b": (float("inf"), "x", None, True)}
    assert plain(value) == {"a": [1.0, None], "b": [None, "x", None, True]}
