"""Outcomes and histories of the ablations → ``results_page`` and its figures."""

from kedro.pipeline import Node, Pipeline

from ser_kedro.pipelines.results.nodes import write_results


def create_pipeline() -> Pipeline:
    """Return the pipeline ``results``."""
    return Pipeline(
        [
            Node(
                write_results,
                inputs={
                    "all_outcomes": "all_outcomes",
                    "all_histories": "all_histories",
                    "results_command": "params:results_command",
                    "evaluation": "params:evaluation",
                },
                outputs=["results_page", "results_rows", "results_figures"],
                name="write_results",
            )
        ],
        tags="results",
    )
