"""``loop_history``, test pairs and audit → ``evolution_history`` and its report."""

from kedro.pipeline import Pipeline, node, pipeline

from ser_kedro.pipelines.evaluation.nodes import evaluate_loops, report, score_test


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
                report,
                inputs=[
                    "evolution_history",
                    "test_scores",
                    "test_pairs",
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
