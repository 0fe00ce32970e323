"""Which versions a run loads, whatever other runs save meanwhile."""

import pytest
from kedro.io import DataCatalog
from kedro.pipeline import Node, Pipeline
from kedro.runner import SequentialRunner

from ser_kedro.datasets import PydanticJSONDataset
from ser_kedro.hooks import ProjectHooks
from ser_kedro.store.references import TableRef

OLD, EARLY, LATE = (f"2026-01-0{day}T00.00.00.000Z" for day in (1, 2, 3))
NAMES = ("raw", "split", "summary")


def table(name):
    return TableRef(path="data/store/a/b/t.arrow", fingerprint=name, rows=1)


def make(place, save, **load):
    """Make the catalog of a run that saves version ``save``."""
    described = {
        name: {
            "type": "ser_kedro.datasets.PydanticJSONDataset",
            "model": "ser_kedro.store.references.TableRef",
            "filepath": (place / f"{name}.json").as_posix(),
            "versioned": True,
        }
        for name in NAMES
    }
    return DataCatalog.from_config(described, save_version=save, load_versions=load)


def extended(name, meanwhile=lambda: None):
    """Make the function of a node that notes what it read."""

    def function(read):
        meanwhile()
        return table(f"{name} of {read.fingerprint}")

    return function


def pipeline(run, meanwhile=lambda: None):
    return Pipeline(
        [
            Node(extended(f"split {run}", meanwhile), "raw", "split", name="split"),
            Node(extended(f"summary {run}"), "split", "summary", name="summary"),
        ]
    )


def go(catalog, nodes, only_missing=False):
    """Run as a session does; return what it would print."""
    params = {"env": None, "only_missing_outputs": only_missing}
    hooks = ProjectHooks()
    hooks.before_pipeline_run(run_params=params, pipeline=nodes, catalog=catalog)
    SequentialRunner().run(nodes, catalog, only_missing_outputs=only_missing)
    return catalog.load("summary").fingerprint


@pytest.fixture
def place(project):
    """A folder in which ``raw`` has a version."""
    make(project, OLD).save("raw", table("old"))
    return project


def test_a_run_loads_what_it_has_saved(place):
    """A run that began later has saved newer versions of all in the meantime."""

    def other():
        catalog = make(place, LATE)
        catalog.save("raw", table("late"))
        catalog.save("split", table("other's"))
        catalog.save("summary", table("other's"))

    said = go(make(place, EARLY), pipeline("mine", other))

    assert said == "summary mine of split mine of old"
    kept = make(place, None, **dict.fromkeys(NAMES[1:], EARLY))
    assert kept.load("summary").fingerprint == said


def test_three_runs_at_once(place):
    """Each begins inside of the one before, and ends before it."""
    said = {}

    def start(number):
        inner = (lambda: start(number + 1)) if number < 2 else (lambda: None)
        catalog = make(place, f"2026-02-0{number + 1}T00.00.00.000Z")
        said[number] = go(catalog, pipeline(number, inner))

    start(0)

    assert said == {n: f"summary {n} of split {n} of old" for n in range(3)}


def test_an_input_is_that_of_the_start(place):
    """Also between two nodes that both read it."""
    nodes = Pipeline(
        [
            Node(
                extended("split", lambda: make(place, LATE).save("raw", table("late"))),
                "raw",
                "split",
                name="first",
            ),
            Node(
                lambda raw, split: table(f"{raw.fingerprint}, {split.fingerprint}"),
                ["raw", "split"],
                "summary",
                name="second",
            ),
        ]
    )
    assert go(make(place, EARLY), nodes) == "old, split of old"


def test_a_version_that_was_asked_for(place):
    make(place, LATE).save("raw", table("late"))
    said = go(make(place, EARLY, raw=OLD), pipeline("mine"))
    assert said == "summary mine of split mine of old"


def test_only_missing_outputs_takes_what_is_there(place):
    make(place, OLD).save("split", table("found"))
    said = go(make(place, EARLY), pipeline("mine"), only_missing=True)
    assert said == "summary mine of found"


def test_only_missing_outputs_runs_nothing_twice(place):
    first = go(make(place, EARLY), pipeline("first"), only_missing=True)
    again = go(make(place, LATE), pipeline("again"), only_missing=True)
    assert first == again == "summary first of split first of old"


def test_an_unversioned_dataset_stays_as_it_is(project):
    dataset = PydanticJSONDataset(filepath=f"{project}/raw.json", model=TableRef)
    dataset.save(table("plain"))
    catalog = make(project, EARLY)
    catalog["raw"] = dataset
    assert go(catalog, pipeline("mine")) == "summary mine of split mine of plain"
