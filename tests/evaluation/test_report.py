from dataclasses import replace

import pandas as pd
import pytest

from ser_kedro.evaluation.history import COLUMNS
from ser_kedro.evaluation.report import LabelBudget, figure, loop_table, summary
from ser_kedro.launch.machine import processor
from ser_kedro.statistics.estimate import Estimate

REPORT = {
    "rows": {
        "train": {
            **{"read": 1200, "kept": 1190, "dropped": {"same_answers": 10}},
            **{"unused_columns": {}, "unread_files": {}},
        },
        "test": {
            **{"read": 400, "kept": 400, "dropped": {}},
            **{"unused_columns": {}, "unread_files": {}},
        },
    },
    "tables": {"unlabeled_pairs": 3000, "pool_prompts": 0},
    "test": "given",
    "split_by_pair": [],
    "human_labels": {"labeled": 300, "validation": 100, "sft": 1000},
}
LABELS = LabelBudget(training=300, validation=100, sft=0, pool=3000)
NONE = float("nan")


def frame(kept=1, outcome="improved"):
    rows = [
        (0, "seed", 0, 1.0, NONE, 0.7, 0.6, 0.71, 0.69, 0.73, "seed", None),
        (1, "1", 1234, 0.6, 0.85, 0.8, 0.5, 0.75, 0.73, 0.77, outcome, None),
        (2, "2", 10, 0.5, 0.6, 0.7, 0.7, 0.6, 0.5, 0.7, "no_gain", "max_loops"),
        (3, "-", 0, 0.5, NONE, NONE, NONE, NONE, NONE, NONE, "skipped", None),
    ]
    encoding = {"trained_pairs": [5, 6, 7, NONE]}
    encoding |= {"overlong_pairs": [3, 2, 1, NONE], "equal_pairs": [0, 1, 0, NONE]}
    columns = [name for name in COLUMNS if name not in encoding]
    table = pd.DataFrame([(*row, row[0] == kept) for row in rows], columns=columns)
    return table.assign(**encoding)[COLUMNS]


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.fixture
def lines():
    return [cells(line) for line in loop_table(frame()).splitlines()]


def test_table_has_a_line_a_loop(lines):
    assert lines[0] == [
        *("loop", "status", "selected", "pool left", "self-labels right"),
        *("validation", "log-loss", "test accuracy [95 %]", "outcome"),
    ]
    assert [line[0] for line in lines[2:]] == ["0", "1 *", "2", "3"]


def test_table_lines_are_equally_long():
    assert len({len(line) for line in loop_table(frame()).splitlines()}) == 1


def test_table_shows_shares_in_percent(lines):
    assert lines[3] == [
        *("1 *", "1", "1,234", "60", "85.0", "80.0", "0.500"),
        *("75.0 [73.0, 77.0]", "improved"),
    ]


def test_table_leaves_out_what_is_not_known(lines):
    assert lines[5] == ["3", "-", "0", "50", "", "", "", "", "skipped"]


def test_table_says_why_the_loops_ended(lines):
    assert lines[4][-1] == "no_gain (max_loops)"


@pytest.mark.parametrize(
    ("gained", "said"),
    [
        (Estimate(0.04, 0.01, 0.07), "+4.0 points [+1.0, +7.0]: a gain."),
        (Estimate(-0.04, -0.07, -0.01), "-4.0 points [-7.0, -1.0]: a loss."),
        (Estimate(0.01, -0.02, 0.04), "not significant on this test set."),
        (Estimate(-0.01, -0.04, 0.02), "not significant on this test set."),
    ],
)
def test_gain_is_said_as_it_is(gained, said):
    text = summary(frame(), gained, LABELS, REPORT)
    (line,) = (line for line in text.splitlines() if line.startswith("Seed →"))
    assert line.startswith("Seed → evolved (loop 1, marked *): 71.0 → 75.0, ")
    assert line.endswith(said)


def test_a_kept_seed_is_no_gain():
    text = summary(frame(kept=0), Estimate(0.0, 0.0, 0.0), LABELS, REPORT)
    assert "(loop 0, marked *): 71.0 → 71.0" in text
    assert "so the seed is kept" in text


def test_a_model_that_was_given_is_not_called_trained_on_all_labels():
    labels = replace(LABELS, training=400, validation=0, ready=True)
    text = summary(frame(), Estimate(0.04, 0.01, 0.07), labels, REPORT)
    assert "The reward model as it was given → evolved (loop 1, marked *)" in text
    assert "All human labels" not in text


PLAIN = {"loop": 4, "status": "all labels", "outcome": "control", "test_accuracy": 0.73}
PLAIN |= {"selected": 0, "pool_left": 0.5, "selected_model": False}


def with_plain(history):
    return pd.concat([history, pd.DataFrame([PLAIN])], ignore_index=True)


def test_the_kept_model_is_compared_with_all_human_labels_where_some_were_held_out():
    history = with_plain(frame())

    text = summary(history, Estimate(0.02, 0.01, 0.03), LABELS, REPORT)

    assert (
        "All human labels, no evolution → evolved (loop 1, marked *): 73.0 → 75.0,"
        " +2.0 points [+1.0, +3.0]: a gain." in text
    )
    assert "| 4      | all labels" in text
    kept = summary(
        with_plain(frame(kept=0)), Estimate(-0.02, -0.03, -0.01), LABELS, REPORT
    )
    assert "73.0 → 71.0, -2.0 points [-3.0, -1.0]: no loop was better" in kept
    assert kept.count("so the seed is kept; a loss.") == 1
    drawn = figure(history)
    assert list(drawn.data[0].x) == [0, 1, 2]
    assert [shape.y0 for shape in drawn.layout.shapes][1:] == [0.73]


@pytest.mark.parametrize("refit", [False, True])
@pytest.mark.parametrize(
    ("status", "called"),
    [
        ("committee", "which learned nothing from the pool"),
        ("co-trained", "co-trained on the pool"),
    ],
)
def test_a_kept_committee_is_named(refit, status, called):
    history = frame(kept=3)
    history.loc[3, ["status", "test_accuracy"]] = [status, 0.8]
    if refit:
        last = {
            **PLAIN,
            "status": "refit 3",
            "outcome": "refit",
            "selected_model": True,
        }
        history["selected_model"] = False
        history = pd.concat([history, pd.DataFrame([last])], ignore_index=True)

    text = summary(history, Estimate(0.02, 0.01, 0.03), LABELS, REPORT)

    *_, drawn = figure(history).data
    assert (drawn.name, list(drawn.y)) == ("committee", [0.8])
    named = f"evolved (the committee of views, {called}"
    after = "; refitted with human labels that the seed model had not, marked *)"
    assert named + (after if refit else ", marked *)") in text


def test_without_held_out_labels_loop_0_is_plain_training_on_all():
    labels = replace(LABELS, training=400, validation=0)
    text = summary(frame(), Estimate(0.01, -0.02, 0.04), labels, REPORT)

    assert "All human labels, no evolution → evolved (loop 1" in text
    assert "Human labels used: 400 (all of them to train every loop's model" in text
    assert "| out of fold" in text and "| validation" not in text
    kept = summary(frame(kept=0), Estimate(0.0, 0.0, 0.0), labels, REPORT)
    assert "no loop was better out of fold, so the seed is kept" in kept


def test_labels_with_and_without_those_of_sft():
    labels = LabelBudget.count(REPORT, sft_spends=True, ready=False)
    text = summary(frame(), Estimate(0.0, -1, 1), labels, REPORT)
    assert "Human labels used: 400 (300 to train" in text
    assert "100 to compare loops) beside 3,000 pairs without labels" in text
    assert "SFT consumed: 1,400." in text
    assert LabelBudget.count(REPORT, sft_spends=False, ready=False).sft == 0


def test_rows_read_are_rows_kept_and_dropped():
    text = summary(frame(), Estimate(0.0, -1, 1), LABELS, REPORT)
    wanted = "Rows (train): 1,200 read, 1,190 kept, 10 dropped (10 same answers)."
    assert wanted in text
    assert "Rows (test): 400 read, 400 kept, 0 dropped." in text


def test_a_pool_that_nobody_has_labelled():
    history = frame().assign(self_label_accuracy=NONE)
    rows = [cells(line) for line in loop_table(history).splitlines()[2:]]
    assert [row[4] for row in rows] == ["", "unknown", "unknown", ""]


def test_prompts_alone_are_named():
    labels = replace(LABELS, pool=0, prompts=40)
    text = summary(frame(), Estimate(0.0, -1, 1), labels, REPORT)
    assert "beside 40 prompts, which a model answered; with" in text


def test_what_was_not_read_is_named():
    train = REPORT["rows"]["train"] | {
        "unused_columns": {"notes": 3},
        "unread_files": {f"{n}.txt": "?" for n in range(12)},
    }
    report = {**REPORT, "rows": {"train": train}}
    report["split_by_pair"] = [{"prompt": "Hi", "rows": 9}]
    text = summary(frame(), Estimate(0.0, -1, 1), LABELS, report)
    assert "Columns with text that were not used (train): notes." in text
    assert "9.txt and 2 more." in text
    assert "the prompt 'Hi' with its 9 pairs" in text


def test_figure_draws_trained_loops_with_intervals():
    drawn = figure(frame())
    accuracy, labels = drawn.data
    assert list(accuracy.x) == [0, 1, 2]
    assert accuracy.error_y.array[1] == pytest.approx(0.02)
    assert accuracy.error_y.arrayminus[1] == pytest.approx(0.02)
    assert labels.name == "self-labels right"
    assert drawn.layout.shapes[0].x0 == 1


def test_overlong_and_equal_pairs_are_counted_by_loop():
    text = summary(frame(), Estimate(0.0, -0.1, 0.1), LABELS, REPORT)
    assert "above reward.max_length, by loop: 3, 2, 1;" in text
    assert "responses equal: 0, 1, 0." in text


def test_figures_hold_for_a_machine(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")

    text = summary(frame(), Estimate(0.0, -0.1, 0.1), LABELS, REPORT)

    assert text.count(f"Written on {processor()} with 3 threads. Figures hold") == 1
    assert "others may give other digits." in text
