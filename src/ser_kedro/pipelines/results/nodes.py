"""Nodes of ``results``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

from ser_kedro.evaluation.params import EvaluationParams
from ser_kedro.store.json_io import plain
from ser_kedro.store.references import TableRef
from ser_kedro.store.tables import read_table


def write_results(
    all_outcomes: Mapping[str, Callable[[], TableRef]],
    all_histories: Mapping[str, Callable[[], list[dict[str, Any]]]],
    results_command: str,
    evaluation: EvaluationParams,
) -> tuple[str, Any, dict[str, str]]:
    """Write the page, its rows, and its figures as SVG."""
    from ser_kedro.ablations.page.page import Provenance, results_page
    from ser_kedro.ablations.page.render import as_svg

    page = results_page(
        pa.concat_tables([read_table(load()) for load in all_outcomes.values()]),
        [row for load in all_histories.values() for row in load()],
        Provenance.of(results_command),
        evaluation,
    )
    return page.markdown, plain(page.rows), as_svg(page.figures)
