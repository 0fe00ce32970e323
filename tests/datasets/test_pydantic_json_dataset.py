import json

import pytest
from kedro.io import DatasetError, Version
from pydantic import BaseModel

from ser_kedro.datasets import PydanticJSONDataset
from ser_kedro.store.references import TableRef


class Point(BaseModel):
    x: float
    name: str | None = None


class Other(BaseModel):
    x: float


class Named(BaseModel):
    tables: dict[str, list[TableRef]]


POINT = Point(x=1.5, name="ü")


@pytest.fixture
def filepath(tmp_path):
    return (tmp_path / "point.json").as_posix()


@pytest.fixture
def dataset(filepath):
    return PydanticJSONDataset(filepath=filepath, model=Point)


@pytest.fixture
def versioned(filepath):
    return PydanticJSONDataset(
        filepath=filepath, model=Point, version=Version(None, "2026-01-01")
    )


class TestPydanticJSONDataset:
    def test_save_and_load(self, dataset):
        dataset.save(POINT)
        assert dataset.load() == POINT

    def test_class_by_its_name(self, filepath):
        name = "ser_kedro.store.references.TableRef"
        dataset = PydanticJSONDataset(filepath=filepath, model=name)
        (kind,) = {dataset._kind()}
        table = kind(path="data/store/tables/t/t.arrow", fingerprint="abc", rows=3)
        dataset.save(table)
        assert dataset.load() == table

    def test_exists(self, dataset):
        assert not dataset.exists()
        dataset.save(POINT)
        assert dataset.exists()

    def test_damage_behind_a_reference(self, filepath, project):
        dataset = PydanticJSONDataset(filepath=filepath, model=Named)
        table = TableRef(path="data/store/a/b/t.arrow", fingerprint="c", rows=3)
        dataset.save(Named(tables={"test": [table]}))
        assert dataset.exists()
        (project / "data/store/a/b").mkdir(parents=True)
        with pytest.raises(DatasetError, match=r"a b: result\.json is missing"):
            dataset.load()
        assert not dataset.exists()

    def test_refuses_another_class(self, dataset):
        with pytest.raises(DatasetError, match="saves Point, not Other"):
            dataset.save(Other(x=1))
        assert not dataset.exists()

    def test_refuses_another_file(self, dataset, filepath):
        with open(filepath, "w") as file:
            file.write('{"x": "far"}')
        with pytest.raises(DatasetError, match="(?s)is no Point.*valid number"):
            dataset.load()

    def test_load_missing_file(self, dataset):
        with pytest.raises(DatasetError, match="Failed while loading data"):
            dataset.load()

    def test_str(self, dataset, filepath):
        assert filepath in str(dataset)

    def test_preview(self, dataset):
        dataset.save(POINT)
        assert json.loads(dataset.preview()) == POINT.model_dump()


class TestPydanticJSONDatasetVersioned:
    def test_save_and_load(self, versioned, filepath):
        versioned.save(POINT)
        newest = PydanticJSONDataset(
            filepath=filepath, model=Point, version=Version(None, None)
        )
        assert newest.load() == POINT

    def test_prevent_overwrite(self, versioned):
        versioned.save(POINT)
        with pytest.raises(DatasetError, match="must not exist if versioning"):
            versioned.save(POINT)
