from ser_kedro.pipeline_registry import register_pipelines

HIDDEN = {"audit_labels", "test_pairs"}


def test_only_evaluation_reads_test_pairs_and_audit():
    road = register_pipelines()["self_evolve"]
    readers = {node.name for node in road.nodes if HIDDEN & set(node.inputs)}

    evaluation = {"score_test", "evaluate_loops", "diagnose", "score_further", "report"}
    assert readers == evaluation
    assert all(
        "evaluation" in road.filter(node_names=[n]).nodes[0].tags for n in readers
    )


def test_every_pipeline_starts_from_the_raw_preferences():
    for name, found in register_pipelines().items():
        free = {each for each in found.inputs() if not each.startswith("params:")}
        assert free == {"raw_preferences"}, name
