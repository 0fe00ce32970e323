import shutil
from typing import ClassVar

import pyarrow as pa
import pytest
from kedro.io import DatasetError, Version

from ser_kedro.datasets import ReferenceDataset
from ser_kedro.launch.executor import run
from ser_kedro.store import job_store as store
from ser_kedro.store.job import Job
from ser_kedro.store.references import NOTHING, ModelRef
from ser_kedro.store.tables import write_table

PROMPT = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
SCHEMA = pa.schema([("prompt", PROMPT), ("p", pa.float64()), ("text", pa.string())])
ROW = {"prompt": [{"role": "user", "content": "hi"}], "p": 0.12345, "text": "y" * 500}


@pytest.fixture
def filepath(tmp_path):
    return (tmp_path / "reference.json").as_posix()


@pytest.fixture
def dataset(filepath):
    return ReferenceDataset(filepath=filepath)


@pytest.fixture
def versioned(filepath):
    return ReferenceDataset(filepath=filepath, version=Version(None, "2026-01-01"))


class MakeTable(Job):
    stage: ClassVar[str] = "tables"

    def work(self, workspace):
        rows = [pa.RecordBatch.from_pylist([ROW] * 5, SCHEMA)]
        return {"made": write_table(workspace, "t", rows, SCHEMA)}


class MakeModel(Job):
    stage: ClassVar[str] = "models"

    def work(self, workspace):
        (workspace / "model").mkdir()
        (workspace / "model" / "model.safetensors").write_bytes(b"weights")
        model = ModelRef(
            kind="reward_model",
            path="model",
            fingerprint="abc",
            base_model="tiny",
            metrics={"steps": 7},
        )
        return {"made": model}


@pytest.fixture
def stored_table(project):
    return run(MakeTable())["made"]


@pytest.fixture
def stored_model(project):
    return run(MakeModel())["made"]


class TestReferenceDataset:
    @pytest.mark.parametrize("name", ["stored_table", "stored_model"])
    def test_save_and_load(self, dataset, name, request):
        reference = request.getfixturevalue(name)
        dataset.save(reference)
        assert dataset.load() == reference
        assert type(dataset.load()) is type(reference)

    def test_nothing(self, dataset):
        dataset.save(NOTHING)
        assert dataset.load() == NOTHING
        assert dataset.exists()

    def test_exists(self, dataset, stored_table):
        assert not dataset.exists()
        dataset.save(stored_table)
        assert dataset.exists()

    def test_does_not_exist_in_a_pruned_store(self, dataset, stored_model, project):
        dataset.save(stored_model)
        assert dataset.exists()
        shutil.rmtree(store.folder(MakeModel()))
        assert not dataset.exists()
        assert dataset.load() == stored_model

    def test_damaged(self, dataset, stored_model):
        dataset.save(stored_model)
        (stored_model.location / "model.safetensors").write_bytes(b"heights")
        with pytest.raises(
            DatasetError, match=r"models .*model\.safetensors has other"
        ):
            dataset.load()
        # So that what is missing of a run is made again.
        assert not dataset.exists()

    def test_outside_of_the_store(self, dataset, stored_table):
        dataset.save(stored_table.model_copy(update={"path": "../../etc/passwd"}))
        with pytest.raises(DatasetError, match="passwd: no place in the store"):
            dataset.load()
        with pytest.raises(DatasetError, match="no place in the store"):
            dataset.exists()

    def test_load_missing_file(self, dataset):
        with pytest.raises(DatasetError, match="Failed while loading data"):
            dataset.load()

    def test_str(self, dataset, filepath):
        assert filepath in str(dataset)

    def test_preview_of_a_table(self, dataset, stored_table):
        dataset.save(stored_table)
        shown = dataset.preview(nrows=2)
        assert shown["columns"] == ["prompt", "p", "text"]
        assert len(shown["data"]) == len(shown["index"]) == 2
        assert shown["data"][0][:2] == ["user: hi", "0.123"]
        assert len(shown["data"][0][2]) == 120

    def test_preview_of_a_model(self, dataset, stored_model):
        dataset.save(stored_model)
        shown = dict(dataset.preview()["data"])
        assert (shown["fingerprint"], shown["base_model"]) == ("abc", "tiny")
        assert shown["steps"] == "7" and "metrics" not in shown

    def test_preview_of_nothing(self, dataset):
        dataset.save(NOTHING)
        assert dataset.preview()["data"] == [["kind", "nothing"]]


class TestReferenceDatasetVersioned:
    def test_save_and_load(self, versioned, filepath, stored_model):
        versioned.save(stored_model)
        newest = ReferenceDataset(filepath=filepath, version=Version(None, None))
        assert newest.load() == stored_model

    def test_no_versions(self, filepath):
        newest = ReferenceDataset(filepath=filepath, version=Version(None, None))
        assert not newest.exists()
        with pytest.raises(DatasetError, match="Did not find any versions"):
            newest.load()

    def test_prevent_overwrite(self, versioned, stored_model):
        versioned.save(stored_model)
        with pytest.raises(DatasetError, match="must not exist if versioning"):
            versioned.save(stored_model)

    def test_a_table_is_not_copied(self, versioned, filepath, stored_table, tmp_path):
        before = set(tmp_path.rglob("*"))
        versioned.save(stored_table)
        written = [p for p in {*tmp_path.rglob("*")} - before if p.is_file()]
        assert len(written) == 1 and written[0].stat().st_size < 1000
