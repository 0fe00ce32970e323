"""``loop_history``, test pairs and audit → ``evolution_history`` and its report."""

from kedro.pipeline import Pipeline, node, pipeline

from ser_kedro.pipelines.evaluation.nodes import (
    diagnose,
    evaluate_loops,
    report,
    score_further,
    score_test,
)


def create_pipeline() -> Pipeline:
    """Return the pipeline ``evaluation``."""
    return pipeline(
        [
            node(
                score_test,
                inputs=[
                    "loop_history",
                    "test_pairs",
                    "params:reward",
                    "params:launcher",
                ],
                outputs="test_scores",
                name="score_test",
            ),
            node(
                evaluate_loops,
                inputs=[
                    "loop_history",
                    "test_scores",
                    "test_pairs",
                    "audit_labels",
                    "params:evaluation",
                ],
                outputs="evolution_history",
                name="evaluate_loops",
            ),
            node(
                diagnose,
                inputs=[
                    "loop_history",
                    "test_scores",
                    "test_pairs",
                    "raw_preferences",
                    "params:evaluation",
                ],
                outputs=["diagnostics", "reliability_figure", "length_figure"],
                name="diagnose",
            ),
            node(
                score_further,
                inputs=[
                    "loop_history",
                    "test_pairs",
                    "params:reward",
                    "params:evaluation",
                    "params:launcher",
                ],
                outputs="further_tests",
                name="score_further",
            ),
            node(
                report,
                inputs=[
                    "evolution_history",
                    "test_scores",
                    "test_pairs",
                    "diagnostics",
                    "further_tests",
                    "data_report",
                    "sft_model",
                    "params:sft",
                    "params:evaluation",
                ],
                outputs=["evolution_summary", "evolution_figure"],
                name="report",
            ),
        ],
        tags="evaluation",
    )
