from __future__ import annotations

import json
import subprocess
import sys

import pytest
from kedro.io import DataCatalog
from kedro.io.core import DatasetError

from ser_kedro.datasets.preference_dataset import PreferenceDataset
from ser_kedro.errors import DataError
from ser_kedro.preferences.source import PreferenceSource

ROWS = [
    {"question": f"Why {n}?", "response_j": "g", "response_k": "b", "source": "s"}
    for n in range(9)
]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("{\n" + "\n".join(map(json.dumps, ROWS)))
    return path


@pytest.fixture
def dataset(path):
    return PreferenceDataset(format="ser", path=str(path), metadata={"kedro-viz": {}})


class TestPreferenceDataset:
    def test_load(self, dataset, path):
        source = dataset.load()

        assert source == PreferenceSource(format="ser", path=str(path))
        assert len(list(source.pairs("train"))) == 10

    def test_from_catalog(self, path):
        catalog = DataCatalog.from_config(
            {
                "raw_preferences": {
                    "type": "ser_kedro.datasets.preference_dataset.PreferenceDataset",
                    "format": "demo_world",
                    "world": {"pairs": 3},
                    "metadata": {"kedro-viz": {"layer": "raw"}},
                }
            }
        )

        source = catalog.load("raw_preferences")

        assert len(list(source.pairs("train"))) == 3

    def test_save_is_refused(self, dataset):
        with pytest.raises(DatasetError, match="read-only"):
            dataset.save([])

    def test_exists(self, dataset, path):
        assert dataset.exists()
        path.unlink()
        assert not dataset.exists()
        assert PreferenceDataset(format="demo_world").exists()
        assert not PreferenceDataset(format="ser").exists()

    def test_describe_and_creation_touch_nothing(self):
        place = "hub://nobody/nothing?split=train"

        dataset = PreferenceDataset(format="hh", path=place)

        assert "hub://nobody/nothing" in str(dataset)
        assert dataset._describe()["path"] == place
        assert dataset.exists()

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"format": "hhh", "path": "a.jsonl"}, "did you mean hh"),
            ({"format": "demo_world", "world": {"pears": 3}}, "world.pears"),
            ({"format": "hh"}, "no data yet in this environment"),
        ],
    )
    def test_errors_come_with_loading(self, fields, message):
        dataset = PreferenceDataset(**fields)

        with pytest.raises(DatasetError, match=message) as caught:
            dataset.load()

        assert isinstance(caught.value.__cause__, DataError)

    @pytest.mark.parametrize("nrows", [1, 5, 20])
    def test_preview(self, dataset, nrows):
        preview = dataset.preview(nrows)

        count = min(nrows, 9)
        assert preview["columns"] == ["prompt", "chosen", "rejected", "source"]
        assert preview["index"] == list(range(count))
        assert preview["data"][0] == ["user: Why 0?", "g", "b", "s"]
        assert len(preview["data"]) == count
        json.dumps(preview)

    def test_import_is_light(self):
        heavy = ("torch", "transformers", "datasets", "pandas", "pandera")
        code = (
            "import sys, ser_kedro.datasets.preference_dataset\n"
            f"print([name for name in {heavy} if name in sys.modules])"
        )

        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True
        )

        assert done.stdout.strip() == "[]", done.stderr
