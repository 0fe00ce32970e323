"""Numbers that say nothing are said to."""

import pytest

from ser_kedro.evaluation.cautions import FEWEST, cautions, constant
from ser_kedro.evaluation.report import LabelBudget, loop_table, report_of
from ser_kedro.evaluation.test_scores import TestScores
from ser_kedro.models.scores import SCORES
from ser_kedro.preferences.schema import LABELED
from ser_kedro.statistics.params import StatisticsParams
from tests.evaluation.test_report import REPORT, frame

PARAMS = StatisticsParams(confidence=0.95, power=0.8)


@pytest.fixture
def scored(table):
    def make(name, rewards):
        rows = [
            {"row": n, "pair_id": str(n), "reward_a": a, "reward_b": b}
            for n, (a, b) in enumerate(rewards)
        ]
        return table(name, rows, SCORES)

    return make


@pytest.mark.parametrize(
    ("prompts", "judged", "said"),
    [
        (1, 500, ["the test pairs are of one prompt; with fewer than 30"]),
        (FEWEST - 1, 500, ["the test pairs are of 29 prompts"]),
        (500, 1, ["compared on one label; with"]),
        (2, 3, ["of 2 prompts", "compared on 3 labels"]),
        (FEWEST, FEWEST, []),
    ],
)
def test_sets_that_are_too_small(prompts, judged, said):
    found = cautions(prompts, judged)

    assert len(found) == len(said)
    assert all(words in line for words, line in zip(said, found))


def test_rewards_that_are_all_equal(scored):
    scores = TestScores(
        {0: scored("flat", [(0.5, 0.5), (0.5, 0.5)]), 2: scored("ok", [(0, 1)])}
    )

    (line,) = constant(scores, {0: "the seed", 2: "the kept model"})

    assert line.startswith("Mind: the seed gives all responses the same reward")


def test_a_run_says_so_in_its_log_and_its_summary(scored, table, train_rows, caplog):
    pairs = table("test", train_rows[:1], LABELED)
    flat = scored("flat", [(0.5, 0.5)])
    scores = TestScores({0: flat, 1: flat})
    labels = LabelBudget(training=40, validation=1, sft=0, pool=9)

    tested = {"consistency": [], "benchmarks": []}

    text, _ = report_of(
        frame(),
        scores,
        pairs,
        {"loops": [], "kept_loop": 1},
        tested,
        REPORT,
        labels,
        PARAMS,
    )

    minded = [line for line in text.splitlines() if line.startswith("Mind: ")]
    assert len(minded) == 4  # two small sets and two models
    assert [record.getMessage() for record in caplog.records] == minded


def test_an_accuracy_of_one_prompt_has_no_interval():
    history = frame()
    history[["test_accuracy_low", "test_accuracy_high"]] = float("nan")

    text = loop_table(history)

    assert "75.0" in text and "[," not in text and "nan" not in text
