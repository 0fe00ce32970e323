"""Numbers that say nothing are said to."""

import pytest

from ser_kedro.evaluation.cautions import (
    FEWEST,
    cautions,
    odd_outcomes,
    odd_rewards,
)
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
    ("prompts", "judged", "pool", "said"),
    [
        (1, 500, 500, ["the test pairs are of one prompt; with fewer than 30"]),
        (FEWEST - 1, 500, 500, ["the test pairs are of 29 prompts"]),
        (500, 1, 500, ["compared on one label; with"]),
        (500, 500, 1, ["the pool has one row; with"]),
        (2, 3, 4, ["of 2 prompts", "compared on 3 labels", "has 4 rows"]),
        (FEWEST, FEWEST, FEWEST, []),
    ],
)
def test_sets_that_are_too_small(prompts, judged, pool, said):
    found = cautions(prompts, judged, pool)

    assert len(found) == len(said)
    assert all(words in line for words, line in zip(said, found))


@pytest.mark.parametrize(
    ("pool_left", "said"),
    [
        ([1.0, 0.0, 0.0, 0.0], ["Mind: loop 1 selected the whole pool"]),
        ([1.0, 0.2, 0.0, 0.0], []),  # used up by and by
        ([0.0, 0.0, 0.0, 0.0], []),  # there was none
    ],
)
def test_a_selection_of_the_whole_pool(pool_left, said):
    found = odd_outcomes(frame().assign(pool_left=pool_left))

    assert [line.partition(",")[0] for line in found] == said


@pytest.mark.parametrize(
    ("high", "said"), [(0.499, True), (0.5, False), (float("nan"), False)]
)
def test_a_model_that_ranks_backwards(high, said):
    history = frame()
    history.loc[1, ["test_accuracy", "test_accuracy_high"]] = [0.254, high]

    found = odd_outcomes(history)

    assert [("ranks 25.4% of" in line and "round" in line) for line in found] == (
        [True] if said else []
    )


@pytest.mark.parametrize(
    ("rewards", "said"),
    [
        ([(0.5, 0.5), (0.5, 0.5)], "Mind: the seed gives all responses the same"),
        ([(0.5, 0.5), (0.5, 0.5 + 1e-9)], "Mind: the seed gives all responses the"),
        ([(50.0, 0.0), (0.0, 40.0)], "Mind: the rewards of the seed differ by 45 "),
    ],
)
def test_rewards_that_say_nothing(scored, rewards, said):
    # Large rewards may be close together, and one large difference is an outlier.
    sound = [(90.0, 91.0), (90.0, 99.0), (0.0, 91.0)]
    scores = TestScores({0: scored("odd", rewards), 2: scored("sound", sound)})

    (line,) = odd_rewards(scores, {0: "the seed", 2: "the kept model"})

    assert line.startswith(said)


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
    assert len(minded) == 5  # three small sets and two models
    assert [record.getMessage() for record in caplog.records] == minded


def test_an_accuracy_of_one_prompt_has_no_interval():
    history = frame()
    history[["test_accuracy_low", "test_accuracy_high"]] = float("nan")

    text = loop_table(history)

    assert "75.0" in text and "[," not in text and "nan" not in text
