"""Means of the loops over seeds."""

import pytest

from ser_kedro.ablations.loop_table import loops_table, loops_text


def row(method, seed, loop, accuracy, **known):
    unknown = {"selected": 0, "self_label_accuracy": None, "kept": False}
    where = {
        "data": "demo",
        "share": 0.15,
        "method": method,
        "seed": seed,
        "loop": loop,
    }
    return where | {"loop": loop, "loop_accuracy": accuracy} | unknown | known


HISTORY = [
    row("seed", 0, 0, 0.6, kept=True),
    row("ser", 0, 0, 0.6),
    row("ser", 0, 1, 0.7, selected=100, self_label_accuracy=0.8, kept=True),
    row("ser", 0, 2, None),
    row("ser", 1, 0, 0.5, kept=True),
    row("ser", 1, 1, 0.4, selected=50, self_label_accuracy=0.6),
    row("late", 0, 1, 0.7),
    row("late", 0, 0, 0.6),
    row("ser", 1, 2, 0.55, selected=10, self_label_accuracy=0.5),
]


def test_means_over_the_draws_that_trained_a_model():
    table = loops_table(HISTORY)
    assert table[["method", "loop", "seeds"]].values.tolist() == [
        ["ser", 0, 2],
        ["ser", 1, 2],
        ["ser", 2, 1],
        ["late", 0, 1],
        ["late", 1, 1],
    ]
    first = table.iloc[1]
    assert first["selected"] == 75
    assert first["self_labels_right"] == pytest.approx(0.7)
    assert first["against_seed"] == pytest.approx((0.1 - 0.1) / 2)
    assert table["against_seed"].iloc[2] == pytest.approx(0.05)
    assert table["kept"].tolist() == [0.5, 0.5, 0.0, 0.0, 0.0]


def test_text_leaves_out_what_is_not_known():
    lines = loops_text(HISTORY).splitlines()
    assert len(lines) == 7
    assert "nan" not in "".join(lines)
    assert "70.0" in lines[3] and "+5.0" in lines[4]
