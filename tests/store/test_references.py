import json

import pyarrow as pa
import pytest
from pydantic import ValidationError

from ser_kedro.errors import StoreError
from ser_kedro.store.job import Job
from ser_kedro.store.layout import PROJECT_VARIABLE, project_root
from ser_kedro.store.references import (
    ANY_REF,
    NOTHING,
    AnyTable,
    DocumentRef,
    ModelRef,
    SelectionRef,
    TableRef,
)
from ser_kedro.store.tables import write_table

MODEL = ModelRef(
    kind="reward_model", path="data/store/x/y", fingerprint="abc", base_model="tiny"
)
OTHER = MODEL.model_copy(update={"fingerprint": "def"})
TABLE = TableRef(path="data/store/t.arrow", fingerprint="123", rows=5)
SELECTION = SelectionRef(path="data/s.arrow", fingerprint="456", rows=3, status="1")
ALL = [
    MODEL,
    MODEL.model_copy(update={"voters": (OTHER,), "backbone": OTHER}),
    TABLE,
    SELECTION,
    DocumentRef(path="data/store/d.json", fingerprint="789"),
    NOTHING,
]


class Reads(Job):
    """Has an input of each kind."""

    stage = "reads"

    model: ModelRef = MODEL
    tables: tuple[AnyTable, ...] = (TABLE, SELECTION)
    rows: TableRef | None = None


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.delenv(PROJECT_VARIABLE, raising=False)
    deep = tmp_path / "project" / "notebooks" / "deep"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    return tmp_path / "project"


def test_a_reference_points_into_the_project(project):
    path = project / "data" / "store" / "x" / "y"
    assert not MODEL.is_there
    path.mkdir(parents=True)

    assert MODEL.location == path
    assert MODEL.is_there


def test_a_reference_to_nothing_says_what_to_do(project):
    with pytest.raises(StoreError, match="abc: nothing at .*/x/y; run the"):
        _ = MODEL.location


@pytest.mark.parametrize("reference", ALL, ids=lambda each: each.kind)
def test_a_reference_survives_json(reference):
    text = json.dumps(ANY_REF.dump_python(reference, mode="json"))

    assert ANY_REF.validate_json(text) == reference


def test_metrics_are_numbers():
    assert MODEL.model_copy(update={"metrics": {"steps": 3}}).metrics == {"steps": 3}
    with pytest.raises(ValidationError):
        ModelRef(**dict(MODEL) | {"metrics": {"status": "stop"}})


def test_a_number_that_is_none_is_left_out():
    """JSON has no word for it, and a catalog version must load again."""
    metrics = {"loss": float("nan"), "worst": float("inf"), "gold": None, "steps": 3}

    assert ModelRef(**dict(MODEL) | {"metrics": metrics}).metrics == {"steps": 3}


class TestIdentity:
    """What a job's fingerprint knows of its inputs."""

    def changed(self, **changes):
        return Reads(**changes).fingerprint != Reads().fingerprint

    def test_is_the_fingerprint_alone(self):
        moved = {"path": "elsewhere", "metrics": {"steps": 9}, "base_model": "b"}
        assert not self.changed(model=MODEL.model_copy(update=moved))
        assert self.changed(model=OTHER)
        assert self.changed(rows=TABLE)

    def test_knows_who_labels_with_a_model(self):
        voting = MODEL.model_copy(update={"voters": (OTHER,)})
        assert self.changed(model=voting)

    def test_knows_the_status_of_a_selection(self):
        other = SELECTION.model_copy(update={"status": "2"})
        assert self.changed(tables=(TABLE, other))

    def test_is_the_same_in_a_rank(self):
        again = Reads.model_validate_json(Reads().model_dump_json())
        assert again == Reads() and again.fingerprint == Reads().fingerprint


def test_a_table_opens_memory_mapped(project):
    batch = pa.RecordBatch.from_pydict({"n": [1, 2, 3]})
    table = write_table(project, "t", [batch], batch.schema)

    opened = table.open()

    assert opened["n"] == [1, 2, 3] and len(opened.cache_files) == 1
    assert table.to_pandas()["n"].tolist() == [1, 2, 3]


def test_the_environment_names_the_project(project):
    assert project_root() == project


def test_the_nearest_kedro_project_above(folder):
    (folder / "pyproject.toml").write_text("[tool.kedro]\n")

    assert project_root() == folder


def test_a_project_that_is_not_kedros_is_passed_by(folder):
    (folder / "pyproject.toml").write_text("[tool.kedro]\n")
    (folder / "notebooks" / "pyproject.toml").write_text("[project]\n")

    assert project_root() == folder


def test_without_a_project_the_working_directory(folder):
    assert project_root() == folder / "notebooks" / "deep"
