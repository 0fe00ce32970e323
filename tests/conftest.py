"""What many tests need: a project to work in, small tables and a tiny model."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Results are compared digit by digit, which half precision on a GPU has not: the tests
# are of the CPU, but for those that ask for a GPU (`make test-gpu`).
if "SER_KEDRO_TEST_GPU" not in os.environ:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import settings

from ser_kedro.launch.executor import run
from ser_kedro.preferences.demo_world.world import WorldParams, draw_pairs
from ser_kedro.preferences.schema import LABELED, UNLABELED
from ser_kedro.store.layout import PROJECT_VARIABLE, project_root
from ser_kedro.store.tables import write_table

# The first call of a test often imports something large.
settings.register_profile("ser-kedro", deadline=None)
settings.load_profile("ser-kedro")

WORLD = WorldParams(
    pairs=96, test_pairs=24, phrases=40, phrases_per_response=(2, 4), fillers=4.0
)


def labeled_rows(pairs):
    return [
        {
            "pair_id": pair.pair_id,
            "group": pair.pair_id,
            "prompt": [{"role": m.role, "content": m.content} for m in pair.prompt],
            "chosen": pair.chosen,
            "rejected": pair.rejected,
            "source": pair.source,
        }
        for pair in pairs
    ]


def put_table(name, rows, schema):
    """Write rows below the project's root; the reference is as the store's own."""
    folder = project_root() / "data" / "store" / "tables"
    folder.mkdir(parents=True, exist_ok=True)
    batch = pa.RecordBatch.from_pylist(rows, schema)
    output = write_table(folder, name, [batch], schema)
    return output.model_copy(update={"path": f"data/store/tables/{output.path}"})


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The root of an empty project, in which all references are looked up."""
    monkeypatch.setenv(PROJECT_VARIABLE, str(tmp_path))
    return tmp_path


@pytest.fixture
def table(project):
    """Make a table of the store out of rows."""
    return put_table


@pytest.fixture(scope="session")
def train_rows():
    return labeled_rows(draw_pairs(WORLD, "train"))


@pytest.fixture(scope="session")
def test_rows():
    return labeled_rows(draw_pairs(WORLD, "test"))


@pytest.fixture
def labeled(table, train_rows):
    """32 labelled pairs of the demo world."""
    return table("labeled", train_rows[:32], LABELED)


@pytest.fixture
def validation(table, test_rows):
    """12 other labelled pairs."""
    return table("validation", test_rows[:12], LABELED)


@pytest.fixture
def unlabeled(table, train_rows):
    """48 pairs without labels; the order of the responses says nothing."""
    rows = []
    for row in train_rows[48:]:
        a, b = sorted((row["chosen"], row["rejected"]))
        kept = {name: row[name] for name in ("pair_id", "group", "prompt", "source")}
        rows.append({**kept, "response_a": a, "response_b": b})
    return table("unlabeled", rows, UNLABELED)


@pytest.fixture(scope="session")
def sft_store(tmp_path_factory, train_rows):
    """A project in which a tiny model was fine-tuned, and the reference to it."""
    from ser_kedro.models.params import ModelParams, ScratchParams
    from ser_kedro.training.params import SftParams
    from ser_kedro.training.sft_job import SftJob

    root = tmp_path_factory.mktemp("sft")
    scratch = ScratchParams(
        vocab_size=400, hidden_size=16, intermediate_size=32, layers=1, heads=2
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(PROJECT_VARIABLE, str(root))
        job = SftJob(
            model=ModelParams(name="tiny", scratch=scratch),
            pairs=put_table("sft", train_rows[32:48], LABELED),
            params=SftParams(
                learning_rate=5e-3,
                epochs=1,
                batch_size=8,
                scheduler="constant",
                max_length=256,
            ),
            seed=0,
        )
        return root, run(job)["model"]


@pytest.fixture
def sft_model(project, sft_store):
    """The tiny model, in this test's own project."""
    root, reference = sft_store
    shutil.copytree(root / reference.path, project / Path(reference.path))
    return reference
