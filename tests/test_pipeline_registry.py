"""The graph: what each node is given, and who may read what."""

import inspect
import re

import pytest

from ser_kedro.pipeline_registry import register_pipelines

HIDDEN = {"audit_labels", "test_pairs"}
RENDERS = {"check_rendering"}
NODES = {
    node.name: node for found in register_pipelines().values() for node in found.nodes
}
# A loop is given what the loop before it made, and loop 1 the seed's.
PREVIOUS = {
    "previous_state": {"evolution_state"},
    "last_state": {"evolution_state"},
}


@pytest.mark.parametrize("name", NODES)
def test_every_input_is_bound_to_the_argument_of_its_name(name):
    node = NODES[name]
    arguments = inspect.signature(node.func).parameters

    assert len(arguments) == len(node.inputs)
    for argument, dataset in zip(arguments, node.inputs, strict=True):
        known = re.sub(r"^params:|^self_evolve\.loop_\d+\.", "", dataset)
        assert known in PREVIOUS.get(argument, {argument})


@pytest.mark.parametrize("loop", range(1, 5))
def test_a_loop_goes_on_from_the_one_before(loop):
    before = f"self_evolve.loop_{loop - 1}"
    nodes = [
        node for node in NODES.values() if node.namespace == f"self_evolve.loop_{loop}"
    ]

    given = {dataset for node in nodes for dataset in node.inputs}
    inside = f"self_evolve.loop_{loop}."
    others = {name for name in given if not name.startswith((inside, "params:"))}
    assert others == {f"{before}.evolution_state"}


def test_only_evaluation_reads_test_pairs_and_audit():
    finished = register_pipelines()["self_evolve"]
    readers = {node.name for node in finished.nodes if HIDDEN & set(node.inputs)}
    # Whether all texts can be rendered: no label is read, and no job is given it.
    readers -= RENDERS

    evaluation = {
        "score_test",
        "evaluate_loops",
        "diagnose",
        "score_benchmarks",
        "report",
    }
    assert readers == evaluation
    assert all(
        "evaluation" in finished.filter(node_names=[n]).nodes[0].tags for n in readers
    )


RUNS = ("__default__", "self_evolve", "policy")
COMPARISONS = ("ablations", "label_efficiency", "policy_comparison")


@pytest.mark.parametrize("name", [*RUNS, *COMPARISONS])
def test_starts_from_the_raw_preferences(name):
    found = register_pipelines()[name]
    free = {each for each in found.inputs() if not each.startswith("params:")}
    # What the project's hook adds to every catalog, empty or not.
    assert free - {"judge_credentials"} == {"raw_preferences"}


def test_steps_are_registered_as_themselves():
    """No step brings another one along, and together they are the whole."""
    known = register_pipelines()
    others = {*RUNS, *COMPARISONS, "results"}
    steps = {name: set(known[name].nodes) for name in known.keys() - others}
    assert sum(map(len, steps.values())) == len(set().union(*steps.values()))
    # Labels are asked for when a run has finished, and used by the next one.
    whole = set(known["self_evolve"].nodes) | set(known["policy"].nodes)
    assert set().union(*steps.values()) == whole | set(known["acquisition"].nodes)


def test_what_people_are_asked_depends_on_no_label_of_the_pool():
    asks = register_pipelines()["acquisition"]
    made = {name for name in asks.inputs() if not name.startswith("params:")}
    # What people have labelled is there for its texts (acquisition/test_request_job).
    labelled = {"labeled_pairs", "validation_pairs"}
    assert made == {"pool_pairs", "reward_model", *labelled}


def test_of_the_policys_run_only_its_evaluation_reads_test_pairs():
    finished = register_pipelines()["policy"]
    readers = {node.name for node in finished.nodes if HIDDEN & set(node.inputs)}

    assert readers - RENDERS == {"answer"}


def test_nothing_is_trained_before_all_data_were_rendered():
    known = register_pipelines()
    assert "template_report" in NODES["fine_tune"].inputs
    assert NODES["check_rendering"].outputs == ["template_report"]
    parts = set(NODES["check_rendering"].inputs)
    made = known["data_split"].all_outputs()
    assert parts >= {name for name in made if name.endswith(("_pairs", "_prompts"))}
    assert "audit_labels" not in parts
