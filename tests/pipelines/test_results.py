"""The page out of what the ablations left, as the catalog hands it over."""

import pytest

from ser_kedro.ablations.page import render
from ser_kedro.errors import DataError, ParameterError
from ser_kedro.evaluation.params import EvaluationParams
from ser_kedro.pipelines.results.nodes import write_results
from ser_kedro.store.tables import write_table
from tests.ablations.conftest import simulated  # noqa: F401

LEVELS = {"seed": 0.6, "ser": 0.9, "full": 1.4}


@pytest.fixture
def loads(project, simulated):  # noqa: F811
    """Loaders of references, as a ``PartitionedDataset`` has them."""

    def make(**first):
        found = {}
        for phase, seed in first.items():
            table, _ = simulated(LEVELS, phase=phase, first=seed, prompts=50)
            reference = write_table(project, phase, table.to_batches(), table.schema)
            found[f"{phase}/ablation"] = lambda reference=reference: reference
        return found

    return make


def rows():
    known = {"data": "demo", "phase": "confirmation", "study": "methods"}
    known |= {"share": 0.15, "method": "ser"}
    return [
        {**known, "seed": 7, "kept": True, "selected": 9, "loop": n}
        | {"loop_accuracy": accuracy, "self_label_accuracy": right}
        for n, accuracy, right in ((0, 0.5, None), (1, 0.625, 0.875))
    ]


def test_writes_page_rows_and_figures(loads):
    outcomes = loads(development=100, confirmation=0)
    page, table, figures = write_results(
        outcomes, {"confirmation/ablation": rows}, "make results", EvaluationParams()
    )

    assert "Written by `make results` (commit " in page
    assert "**Confirmation**: seeds 0, 1, 2, 3, 4." in page
    assert "## Loop by loop" in page and "+12.5" in page
    assert {row["phase"] for row in table} == {"development", "confirmation"}
    assert figures["demo_methods"].startswith("<svg")
    assert "accuracy of every method" in figures["demo_methods"]


def test_refuses_to_confirm_on_what_was_seen(loads):
    outcomes = loads(development=100, confirmation=100)
    with pytest.raises(DataError, match="demo: seed 100 was used in development"):
        write_results(outcomes, {}, "make results", EvaluationParams())


def test_without_kaleido_one_line_says_what_to_install(loads, monkeypatch):
    def missing(*args, **kwargs):
        raise ValueError("Image export requires the kaleido package")

    monkeypatch.setattr(render.Figure, "to_image", missing)
    with pytest.raises(ParameterError, match="pip install 'ser-kedro.results.'"):
        write_results(loads(development=0), {}, "make results", EvaluationParams())
