"""The results page, out of outcome tables of a known truth."""

import json

import pyarrow as pa
import pyarrow.compute
import pytest

from ser_kedro.ablations.page.page import Provenance, results_page, untouched
from ser_kedro.errors import DataError
from ser_kedro.evaluation.params import EvaluationParams

ARMS = {
    **{"random_labels": 0.0, "seed": 0.6, "seed_long": 0.6},
    **{"ser": 0.9, "leaky": 1.2, "full": 1.6, "seed_all": 0.9},
}
SHARES = {("seed", 0.05): 0.3, ("seed", 1.0): 1.6, ("ser", 0.05): 0.4}
WHERE = Provenance("make evidence", "abc1234", {"torch": "2.13"})
COLUMNS = [
    *("data", "arm", "seeds", "accuracy", "low", "high", "difference_to_seed"),
    *("difference_low", "difference_high", "gap_closed"),
]


@pytest.fixture(scope="module")
def phases(simulated):
    return {
        "development": simulated(ARMS, first=100, crossed=False)[0],
        "confirmation": simulated(ARMS, first=0, crossed=False, seed=1)[0],
        "efficiency": simulated({**ARMS, **SHARES}, first=0, crossed=False)[0],
    }


@pytest.fixture(scope="module")
def page(phases):
    return results_page(phases, WHERE, EvaluationParams(), {"demo": 2600})


def block(page, phase):
    """The text of a phase."""
    return page.markdown.partition(f"**{phase}**")[2].partition("\n**")[0]


def test_says_where_it_comes_from(page):
    assert "`make evidence` (commit abc1234, torch 2.13)" in page.markdown


def test_shows_both_phases(page):
    assert "**Development**: draws 100, 101, 102, 103, 104." in page.markdown
    assert "**Confirmation**: draws 0, 1, 2, 3, 4." in page.markdown


def test_says_what_was_not_confirmed(phases):
    alone = {"development": phases["development"]}
    page = results_page(alone, WHERE, EvaluationParams())
    assert "**Confirmation**: not run." in page.markdown
    assert "**Efficiency**: not run." in page.markdown


def test_planted_effects_are_called_what_they_are(page):
    rows = {(row["arm"], row["phase"], row["share"]): row for row in page.rows}
    assert rows["ser", "confirmation", 0.15]["verdict"] == "gain"
    assert rows["random_labels", "confirmation", 0.15]["verdict"] == "loss"
    assert rows["seed_long", "confirmation", 0.15]["verdict"] == "not resolved"
    told = block(page, "Confirmation")
    assert "Self-evolution with 15% of the labels: +" in told
    assert "a gain." in told


def test_an_unresolved_difference_is_never_called_a_gain(simulated):
    table, _ = simulated({"seed": 0.6, "ser": 0.62}, prompts=40, draw=0.1)
    page = results_page({"development": table}, WHERE, EvaluationParams())
    (row,) = (row for row in page.rows if row["arm"] == "ser")
    assert row["verdict"] == "not resolved"
    assert "gain" not in page.markdown.partition("### demo")[2]
    assert "would be missed too often" in page.markdown


def test_a_seed_model_that_was_kept_is_named_as_such(simulated):
    table, _ = simulated({"seed": 0.6}, prompts=40)
    kept = pa.Table.from_pandas(table.to_pandas().assign(arm="ser"), table.schema)
    both = {"development": pa.concat_tables([table, kept])}
    page = results_page(both, WHERE, EvaluationParams())
    assert "[+0.0, +0.0], since it kept the seed model" in page.markdown
    assert "would be missed" not in page.markdown


def test_what_any_sound_measurement_shows(page):
    told = block(page, "Confirmation")
    for low, high in (("random_labels", "seed"), ("seed", "full"), ("ser", "leaky")):
        (line,) = (x for x in told.splitlines() if f"`{low}` below `{high}`" in x)
        assert line.endswith("as expected.")


def test_a_leak_that_does_not_show_is_said(simulated):
    table, _ = simulated({"seed": 0.6, "ser": 0.9, "leaky": 0.9}, prompts=40)
    page = results_page({"development": table}, WHERE, EvaluationParams())
    (line,) = (x for x in page.markdown.splitlines() if "`ser` below `leaky`" in x)
    assert line.endswith("not shown.")


def test_rows_have_what_was_promised(page, phases):
    first = page.rows[0]
    assert list(first)[: len(COLUMNS)] == COLUMNS
    assert json.loads(json.dumps(page.rows)) == page.rows
    keys = {(row["phase"], row["arm"], row["share"]) for row in page.rows}
    assert len(keys) == len(page.rows) == 3 * len(ARMS) + len(SHARES)
    seed = next(row for row in page.rows if row["arm"] == "seed")
    assert seed["difference_to_seed"] is None and seed["seeds"] == 5


def test_labels_that_evolution_saves(page):
    told = block(page, "Efficiency")
    assert "How many labels does evolution save?" in told
    lines = [line for line in told.splitlines() if "evolution is as good as" in line]
    assert len(lines) == 2
    assert any("of 2,600 labels" in line for line in lines)
    assert "a mean over these shares: +" in told


def test_parts_of_the_test_set(page):
    told = block(page, "Confirmation")
    (head,) = (line for line in told.splitlines() if "hardest third" in line)
    for name in (
        "calibration error",
        "easiest third",
        "source s0",
        "shorter preferred",
    ):
        assert name in head


def test_evolution_beside_the_same_labels_without_it(page):
    told = block(page, "Confirmation").splitlines()
    (line,) = (line for line in told if "`ser` less `seed_all`" in line)
    rows = {row["arm"]: row for row in page.rows if row["phase"] == "confirmation"}
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
    assert set(page.figures) == {"demo_arms", "demo_labels"}
    for name, figure in page.figures.items():
        assert f"(figures/{name}.svg)" in page.markdown
        assert len(figure.data) == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"first": 104, "crossed": False}, "demo: draw 104 was used in development"),
        ({"first": 0, "data": "demo"}, "prompt group .* was used in development"),
    ],
)
def test_a_confirmation_must_be_untouched(simulated, phases, options, said):
    table, _ = simulated({"seed": 0.5}, prompts=5, **options)
    seen, _ = simulated({"seed": 0.5}, prompts=5, first=0)
    development = pa.concat_tables([phases["development"], seen])
    if "prompt" in said:
        frame = table.to_pandas().assign(seed=50)
        table = pa.Table.from_pandas(frame, table.schema)
    with pytest.raises(DataError, match=said):
        untouched({"development": development, "confirmation": table})


def test_prompts_shared_by_chance_are_left_out(simulated):
    levels = {"seed": 0.6, "full": 1.4}
    development, _ = simulated(levels, first=100, crossed=False, draws=2)
    table, _ = simulated(levels, first=0, crossed=False, draws=2)
    shared = development["group"][0].as_py()
    frame = table.to_pandas()
    old = frame["group"].iloc[0]
    frame["group"] = frame["group"].replace(old, shared)
    phases = {
        "development": development,
        "confirmation": pa.Table.from_pandas(frame, table.schema),
    }
    kept, left_out = untouched(phases)
    assert left_out == {("confirmation", "demo"): 1}
    rest = table.filter(pa.compute.not_equal(table["group"], old))
    assert kept["confirmation"].equals(rest)
    assert kept["development"] is development
    page = results_page(phases, WHERE, EvaluationParams())
    assert "; 1 prompts that development had too are left out." in page.markdown


def test_data_sets_are_guarded_one_by_one(simulated):
    """A small data set of prompts that were seen does not hide in a large one."""
    levels = {"seed": 0.6}
    world, fresh = (
        simulated(levels, first=first, crossed=False, prompts=300)[0]
        for first in (100, 0)
    )
    seen = simulated(levels, first=100, data="real", prompts=20)[0]
    frame = seen.to_pandas()
    again = pa.Table.from_pandas(frame.assign(seed=frame["seed"] - 50), seen.schema)
    phases = {
        "development": pa.concat_tables([world, seen]),
        "confirmation": pa.concat_tables([fresh, again]),
    }
    with pytest.raises(DataError, match="confirmation: real: prompt group"):
        untouched(phases)


def test_efficiency_alone_has_no_figure_of_arms(simulated):
    table = simulated({("seed", 0.1): 0.5, ("seed", 1.0): 1.0, ("ser", 0.1): 0.6})[0]
    page = results_page({"efficiency": table}, WHERE, EvaluationParams())
    assert set(page.figures) == {"demo_labels"}
    assert "_arms.svg" not in page.markdown


def test_outcomes_without_a_seed_model(simulated):
    table = simulated({"ser": 0.5})[0]
    with pytest.raises(DataError, match="confirmation: demo has no arm seed"):
        results_page({"confirmation": table}, WHERE, EvaluationParams())


def test_an_unknown_phase(phases):
    with pytest.raises(DataError, match="some of the phases development, confirmation"):
        untouched({"test": phases["development"]})


def test_a_name_with_spaces_is_a_link_without(simulated):
    table = simulated({"seed": 0.6, "full": 1.4}, data="Eval 1", first=100)[0]
    page = results_page({"development": table}, WHERE, EvaluationParams())
    assert set(page.figures) == {"Eval_1_arms"}
    assert "(figures/Eval_1_arms.svg)" in page.markdown
