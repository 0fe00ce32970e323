"""Every notebook runs over catalog data, and is stored without outputs."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = pytest.mark.end_to_end

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return request.param


def code_cells(path):
    cells = nbformat.read(path, as_version=4).cells
    return [cell for cell in cells if cell.cell_type == "code"]


def test_there_is_one():
    assert "02_evolution" in [path.stem for path in NOTEBOOKS]


def test_is_stored_without_outputs(notebook):
    cells = code_cells(notebook)
    assert cells
    for cell in cells:
        assert cell.outputs == [] and cell.execution_count is None


def test_runs(notebook, finished, shell):
    folder = finished / "notebooks"
    content = nbformat.read(notebook, as_version=4)
    client = NotebookClient(
        content,
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute(env=shell(finished, {"KEDRO_ENV": "test"}))
    assert all(c.execution_count for c in content.cells if c.cell_type == "code")
