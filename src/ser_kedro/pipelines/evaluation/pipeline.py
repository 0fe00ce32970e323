"""``loop_history``, test pairs and audit → ``evolution_history`` and its report."""

from kedro.pipeline import Pipeline, node, pipeline

from ser_kedro.pipelines.evaluation.nodes import (
    diagnose,
    evaluate_loops,
    report,
    score_benchmarks,
    score_test,
)


def create_pipeline() -> Pipeline:
    """Return the pipeline ``evaluation``."""
    return pipeline(
        [
            node(
                score_test,
                inputs={
                    "loop_history": "loop_history",
                    "test_pairs": "test_pairs",
                    "reward": "params:reward",
                    "launcher": "params:launcher",
                },
                outputs="test_scores",
                name="score_test",
            ),
            node(
                evaluate_loops,
                inputs={
                    "loop_history": "loop_history",
                    "test_scores": "test_scores",
                    "test_pairs": "test_pairs",
                    "audit_labels": "audit_labels",
                    "evaluation": "params:evaluation",
                },
                outputs="evolution_history",
                name="evaluate_loops",
            ),
            node(
                diagnose,
                inputs={
                    "loop_history": "loop_history",
                    "test_scores": "test_scores",
                    "test_pairs": "test_pairs",
                    "gold_reward": "gold_reward",
                    "evaluation": "params:evaluation",
                },
                outputs=["diagnostics", "reliability_figure", "length_figure"],
                name="diagnose",
            ),
            node(
                score_benchmarks,
                inputs={
                    "loop_history": "loop_history",
                    "test_pairs": "test_pairs",
                    "reward": "params:reward",
                    "evaluation": "params:evaluation",
                    "launcher": "params:launcher",
                },
                outputs="benchmark_results",
                name="score_benchmarks",
            ),
            node(
                report,
                inputs={
                    "evolution_history": "evolution_history",
                    "test_scores": "test_scores",
                    "test_pairs": "test_pairs",
                    "diagnostics": "diagnostics",
                    "benchmark_results": "benchmark_results",
                    "data_report": "data_report",
                    "sft_model": "sft_model",
                    "sft": "params:sft",
                    "evaluation": "params:evaluation",
                },
                outputs=["evolution_summary", "evolution_figure"],
                name="report",
            ),
        ],
        tags="evaluation",
    )
