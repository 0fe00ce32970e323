import numpy as np
import pandas as pd
import pytest

from ser_kedro.evaluation.history import (
    COLUMNS,
    correct_pairs,
    evolution_history,
    gain,
    self_label_accuracy,
)
from ser_kedro.evaluation.params import EvaluationParams
from ser_kedro.evaluation.test_scores import TestScores
from ser_kedro.models.scores import SCORES
from ser_kedro.preferences.schema import AUDIT, LABELED
from ser_kedro.self_evolution.selection import SELECTED, as_selection
from ser_kedro.self_evolution.state import EvolutionData, EvolutionState, LoopRecord
from ser_kedro.store.references import ModelRef

PARAMS = EvaluationParams(resamples=200)
IDS = [f"{number:032x}" for number in range(6)]


@pytest.fixture
def tested(table):
    prompt = [{"role": "user", "content": "?"}]
    rows = [
        {"pair_id": i, "group": f"g{n}", "prompt": prompt, "source": ""}
        | {"chosen": "a", "rejected": "b"}
        for n, i in enumerate(IDS)
    ]
    return table("test", rows, LABELED)


@pytest.fixture
def scored(table):
    """Test scores of a model that is right for every 1, wrong for 0, ties for ½."""

    def put(name, right):
        names = SCORES.names
        rows = []
        for row, value in enumerate(right):
            filled = dict.fromkeys(names) | {"reward_a": value, "reward_b": 0.5}
            extra = {"row": row, "pair_id": IDS[row]}
            rows.append(filled | {k: v for k, v in extra.items() if k in names})
        return table(name, rows, SCORES)

    return put


@pytest.fixture
def audit(table):
    rows = [{"pair_id": i, "a_is_chosen": n % 2 == 0} for n, i in enumerate(IDS)]
    return table("audit", rows, AUDIT)


@pytest.fixture
def selection(table):
    """Three self-labels, of which the first two are right."""
    rows = [
        dict.fromkeys(SELECTED.names) | {"pair_id": IDS[n], "a_preferred": preferred}
        for n, preferred in ((4, True), (1, False), (3, True))
    ]
    return as_selection(table("selection", rows, SELECTED), "1")


def model(accuracy):
    metrics = {
        "validation_accuracy": accuracy,
        "validation_log_loss": 0.5,
        "pairs": 9,
        "trained_pairs": 8,
        "overlong_pairs": 2,
        "equal_pairs": 1,
    }
    return ModelRef(
        kind="reward_model", path="m", fingerprint=str(accuracy), metrics=metrics
    )


def record(loop, **known):
    blank = {
        "loop": loop,
        "status": "-",
        "pool": 6,
        "selected": 0,
        "pool_left": 1.0,
        "outcome": "skipped",
    }
    return LoopRecord(**blank | known)


@pytest.fixture
def history(tested, scored, audit, selection):
    seed = {"status": "seed", "outcome": "seed", "model": model(0.7)}
    first = {"status": "1", "outcome": "improved", "model": model(0.8), "selected": 3}
    records = [
        record(0, **seed),
        record(1, **first, selection=selection, pool_left=0.5),
        record(
            2,
            status="stop",
            outcome="no_confident_pairs",
            pool_left=0.5,
            stop_reason="no_confident_pairs",
            selection=selection,
        ),
        record(3, pool_left=0.5),
    ]
    data = EvolutionData(
        labeled_pairs=tested,
        validation_pairs=tested,
        unlabeled_pairs=tested,
        sft_model=model(0),
    )
    state = EvolutionState(
        data=data, best_loop=1, best=records[1].model, records=tuple(records)
    )
    scores = TestScores(
        {
            0: scored("zero", [1, 1, 1, 0, 0, 0.5]),
            1: scored("one", [1, 1, 1, 1, 1, 0]),
        }
    )
    return evolution_history(state, scores, tested, audit, PARAMS)


def test_ties_count_half(scored):
    assert correct_pairs(scored("s", [1, 0, 0.5])).tolist() == [1.0, 0.0, 0.5]


def test_self_labels_are_joined_by_pair(selection, audit):
    assert self_label_accuracy(selection, audit) == pytest.approx(2 / 3)


def test_one_row_a_loop(history):
    assert list(history.columns) == COLUMNS
    assert history["loop"].tolist() == [0, 1, 2, 3]
    assert history["selected_model"].tolist() == [False, True, False, False]


def test_figures_where_a_model_was_trained(history):
    assert history["test_accuracy"].iloc[:2].tolist() == [3.5 / 6, 5 / 6]
    assert history["validation_accuracy"].iloc[:2].tolist() == [0.7, 0.8]
    figures = ["test_accuracy", "test_accuracy_low", "validation_log_loss"]
    assert history[figures].iloc[2:].isna().all(axis=None)
    counts = ["trained_pairs", "overlong_pairs", "equal_pairs"]
    assert history[counts].iloc[0].tolist() == [8, 2, 1]


def test_self_labels_only_where_some_were_selected(history):
    right = history["self_label_accuracy"]
    assert right.iloc[1] == pytest.approx(2 / 3)
    assert right.isna().tolist() == [True, False, True, True]


def test_stop_reason_is_missing_elsewhere(history):
    assert history["stop_reason"].notna().tolist() == [False, False, True, False]


def test_survives_parquet(history, tmp_path):
    history.to_parquet(tmp_path / "history.parquet")
    again = pd.read_parquet(tmp_path / "history.parquet")
    pd.testing.assert_frame_equal(history, again)


def test_gain_is_paired(scored, tested):
    seed = scored("zero", [1, 1, 1, 0, 0, 0.5])
    evolved = scored("one", [1, 1, 1, 1, 1, 0.5])
    estimate = gain(seed, evolved, tested, PARAMS)
    assert estimate.value == pytest.approx(2 / 6)
    assert 0 <= estimate.low < estimate.value < estimate.high
    same = gain(seed, seed, tested, PARAMS)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    assert gain(evolved, seed, tested, PARAMS).value == pytest.approx(-2 / 6)
    assert np.isfinite(estimate.high)
