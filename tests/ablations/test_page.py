"""The results page, out of outcome tables of a known truth."""

import json

import pyarrow as pa
import pyarrow.compute
import pytest

from ser_kedro.ablations.page.page import (
    Provenance,
    _loops_by_phase,
    results_page,
    untouched,
)
from ser_kedro.ablations.page.render import render
from ser_kedro.errors import DataError
from ser_kedro.evaluation.params import EvaluationParams

METHODS = {
    **{"random_labels": 0.0, "seed": 0.6, "seed_long": 0.6},
    **{"ser": 0.9, "leaky": 1.2, "full": 1.6, "seed_all": 0.9},
}
SHARES = {("seed", 0.05): 0.3, ("seed", 1.0): 1.6, ("ser", 0.05): 0.4}
WHERE = Provenance("make results", "abc1234", {"torch": "2.13"})
EMPTY = {
    "provenance": WHERE,
    "params": EvaluationParams(),
    "phases": (),
    "data_sets": (),
}
COLUMNS = [
    *("data", "method", "seeds", "accuracy", "low", "high", "difference_to_seed"),
    *("difference_low", "difference_high", "gap_closed"),
]


HISTORY = [
    {"data": "demo", "phase": "confirmation", "study": "efficiency"}
    | {"share": 1, "human_labels": 2600}
]


@pytest.fixture(scope="module")
def phases(simulated):
    options = {"crossed": False}
    return {
        "development": simulated(METHODS, phase="development", first=100, **options)[0],
        "confirmation": simulated(METHODS, first=0, seed=1, **options)[0],
        "efficiency": simulated(
            {**METHODS, **SHARES}, study="efficiency", first=0, **options
        )[0],
    }


@pytest.fixture(scope="module")
def page(phases):
    return page_of(*phases.values(), history=HISTORY)


def page_of(*tables, history=()):
    return results_page(pa.concat_tables(tables), history, WHERE, EvaluationParams())


def block(page, phase):
    """The text of a phase."""
    return page.markdown.partition(f"**{phase}**")[2].partition("\n**")[0]


def test_says_where_it_comes_from(page):
    assert "`make results` (commit abc1234; torch 2.13)" in page.markdown


def test_shows_both_phases(page):
    assert "**Development**: seeds 100, 101, 102, 103, 104." in page.markdown
    assert "**Confirmation**: seeds 0, 1, 2, 3, 4." in page.markdown


def test_says_what_was_not_confirmed(phases):
    page = page_of(phases["development"])
    assert "**Confirmation**: not run." in page.markdown
    assert "**Label efficiency**: not run." in page.markdown


def test_planted_effects_are_called_what_they_are(page):
    rows = {
        (row["method"], row["phase"], row["share"]): row
        for row in page.rows
        if row["study"] == "methods"
    }
    assert rows["ser", "confirmation", 0.15]["verdict"] == "gain"
    assert rows["random_labels", "confirmation", 0.15]["verdict"] == "loss"
    assert rows["seed_long", "confirmation", 0.15]["verdict"] == "not significant"
    text = block(page, "Confirmation")
    assert "Self-evolution with 15% of the labels: +" in text
    assert "a gain." in text


def test_an_insignificant_difference_is_never_called_a_gain(simulated):
    table, _ = simulated({"seed": 0.6, "ser": 0.62}, prompts=40, spread=0.1)
    page = page_of(table)
    (row,) = (row for row in page.rows if row["method"] == "ser")
    assert row["verdict"] == "not significant"
    assert "gain" not in page.markdown.partition("## demo")[2]
    assert "would be missed too often" in page.markdown


def test_a_seed_model_that_was_kept_is_named_as_such(simulated):
    table, _ = simulated({"seed": 0.6}, prompts=40)
    kept = pa.Table.from_pandas(table.to_pandas().assign(method="ser"), table.schema)
    page = page_of(table, kept)
    assert "[+0.0, +0.0], since it kept the seed model" in page.markdown
    assert "would be missed" not in page.markdown


def test_what_any_sound_measurement_shows(page):
    text = block(page, "Confirmation")
    for low, high in (("random_labels", "seed"), ("seed", "full"), ("ser", "leaky")):
        (line,) = (x for x in text.splitlines() if f"`{low}` below `{high}`" in x)
        assert line.endswith("as expected.")


def test_a_leak_that_does_not_show_is_said(simulated):
    table, _ = simulated({"seed": 0.6, "ser": 0.9, "leaky": 0.9}, prompts=40)
    page = page_of(table)
    (line,) = (x for x in page.markdown.splitlines() if "`ser` below `leaky`" in x)
    assert line.endswith("not shown.")


def test_rows_have_what_was_promised(page, phases):
    first = page.rows[0]
    assert list(first)[: len(COLUMNS)] == COLUMNS
    assert json.loads(json.dumps(page.rows)) == page.rows
    names = ("phase", "study", "method", "share")
    keys = {tuple(row[name] for name in names) for row in page.rows}
    assert len(keys) == len(page.rows) == 3 * len(METHODS) + len(SHARES)
    seed = next(row for row in page.rows if row["method"] == "seed")
    assert seed["difference_to_seed"] is None and seed["seeds"] == 5


def test_labels_that_evolution_saves(page):
    text = block(page, "Label efficiency, confirmation")
    assert "How many labels does self-evolution save?" in text
    lines = [line for line in text.splitlines() if "evolution is as good as" in line]
    assert len(lines) == 2
    assert any("of 2,600 labels" in line for line in lines)
    assert "mean over these shares: +" in text


def test_parts_of_the_test_set(page):
    text = block(page, "Confirmation")
    (head,) = (line for line in text.splitlines() if "hardest third" in line)
    for name in (
        "calibration error",
        "easiest third",
        "source s0",
        "shorter preferred",
    ):
        assert name in head


def test_evolution_beside_the_same_labels_without_it(page):
    text = block(page, "Confirmation").splitlines()
    (line,) = (line for line in text if "`ser` less `seed_all`" in line)
    rows = {
        row["method"]: row
        for row in page.rows
        if (row["phase"], row["study"]) == ("confirmation", "methods")
    }
    less = rows["ser"]["accuracy"] - rows["seed_all"]["accuracy"]
    assert f": {100 * less:+.1f} points [" in line


def test_the_rule_that_needs_no_label(page):
    (line,) = (
        line
        for line in block(page, "Confirmation").splitlines()
        if "longer answer" in line
    )
    assert float(line.split(": ")[1].split()[0]) == pytest.approx(66.7, abs=0.2)
    assert "`ser` less that " in line and "`full` less that +" in line


def test_figures_are_linked_and_there(page):
    assert set(page.figures) == {"demo_methods", "demo_labels"}
    for name, figure in page.figures.items():
        assert f"(figures/{name}.svg)" in page.markdown
        assert len(figure.data) == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"first": 104, "crossed": False}, "demo: seed 104 was used in development"),
        ({"first": 0, "data": "demo"}, "prompt group .* was used in development"),
    ],
)
def test_a_confirmation_must_be_untouched(simulated, phases, options, said):
    table, _ = simulated({"seed": 0.5}, prompts=5, **options)
    seen, _ = simulated({"seed": 0.5}, phase="development", prompts=5, first=0)
    development = pa.concat_tables([phases["development"], seen])
    if "prompt" in said:
        frame = table.to_pandas().assign(seed=50)
        table = pa.Table.from_pandas(frame, table.schema)
    with pytest.raises(DataError, match=said):
        untouched(pa.concat_tables([development, table]))


def test_prompts_shared_by_chance_are_left_out(simulated):
    levels = {"seed": 0.6, "full": 1.4}
    development, _ = simulated(
        levels, phase="development", first=100, crossed=False, seeds=2
    )
    table, _ = simulated(levels, first=0, crossed=False, seeds=2)
    shared = development["group"][0].as_py()
    frame = table.to_pandas()
    old = frame["group"].iloc[0]
    frame["group"] = frame["group"].replace(old, shared)
    both = pa.concat_tables([development, pa.Table.from_pandas(frame, table.schema)])
    kept, left_out = untouched(both)
    assert left_out == {("confirmation", "methods", "demo"): 1}
    rest = table.filter(pa.compute.not_equal(table["group"], old))
    assert kept.equals(pa.concat_tables([development, rest]))
    page = page_of(both)
    assert "; 1 prompts that development had too are left out." in page.markdown


def test_data_sets_are_guarded_one_by_one(simulated):
    """A small data set of prompts that were seen does not hide in a large one."""
    levels = {"seed": 0.6}
    world, fresh = (
        simulated(levels, phase=phase, first=first, crossed=False, prompts=300)[0]
        for phase, first in (("development", 100), ("confirmation", 0))
    )
    real = {"phase": "development", "data": "real", "prompts": 20}
    seen = simulated(levels, first=100, **real)[0]
    frame = seen.to_pandas().assign(phase="confirmation")
    again = pa.Table.from_pandas(frame.assign(seed=frame["seed"] - 50), seen.schema)
    with pytest.raises(DataError, match="confirmation: real: prompt group"):
        untouched(pa.concat_tables([world, seen, fresh, again]))


def test_efficiency_alone_has_no_figure_of_methods(simulated):
    levels = {("seed", 0.1): 0.5, ("seed", 1.0): 1.0, ("ser", 0.1): 0.6}
    table = simulated(levels, study="efficiency")[0]
    page = page_of(table)
    assert set(page.figures) == {"demo_labels"}
    assert "_methods.svg" not in page.markdown


def test_outcomes_without_a_seed_model(simulated):
    table = simulated({"ser": 0.5})[0]
    with pytest.raises(DataError, match="confirmation: demo has no seed run"):
        page_of(table)


def test_an_unknown_phase(simulated):
    table = simulated({"seed": 0.5}, phase="test")[0]
    with pytest.raises(DataError, match="unknown phase test .known: development"):
        page_of(table)


def test_outcomes_of_an_earlier_version(phases):
    table = phases["development"].drop_columns(["excess_length"])
    with pytest.raises(DataError, match="no column excess_length; run the ablations"):
        page_of(table)


def test_loops_are_shown_by_phase():
    known = {"data": "demo", "share": 0.15, "method": "ser", "seed": 7, "kept": True}
    rows = [
        known
        | {"phase": "confirmation", "study": study, "loop": n, "loop_accuracy": a}
        | {"selected": 9, "self_label_accuracy": s}
        for study in ("methods", "efficiency")
        for n, a, s in ((0, 0.5, None), (1, 0.625, 0.875))
    ]
    (phase, table), *others = _loops_by_phase(rows).items()
    assert (phase, len(table), others) == ("confirmation", 2, [])
    assert "+12.5" in render("results.md.jinja", **EMPTY, histories={phase: table})


def test_a_name_with_spaces_is_a_link_without(simulated):
    table = simulated({"seed": 0.6, "full": 1.4}, data="Eval 1", first=100)[0]
    page = page_of(table)
    assert set(page.figures) == {"Eval_1_methods"}
    assert "(figures/Eval_1_methods.svg)" in page.markdown
