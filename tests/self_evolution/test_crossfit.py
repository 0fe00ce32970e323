"""Every label trains and every one judges, and no model judges what it has seen."""

import numpy as np
import pytest

from ser_kedro.errors import DataError
from ser_kedro.launch.executor import run
from ser_kedro.models.calibration import Calibration, validation_rewards
from ser_kedro.models.scoring import score_pairs
from ser_kedro.preferences.schema import LABELED
from ser_kedro.self_evolution.crossfit import cut_into_folds
from ser_kedro.self_evolution.crossfit_job import FoldsJob
from ser_kedro.self_evolution.loop import EvolutionLoop
from ser_kedro.self_evolution.params import EvolutionParams
from ser_kedro.self_evolution.state import EvolutionData
from ser_kedro.store.json_io import read_json
from ser_kedro.store.layout import RESULT, finished
from ser_kedro.store.tables import read_table
from ser_kedro.training.committee_params import CommitteeParams
from ser_kedro.training.params import RewardParams
from tests.conftest import put_table

pytestmark = pytest.mark.slow

FOLDS = 2
REWARD = RewardParams(
    learning_rate=1e-2,
    epochs=4,
    batch_size=8,
    scheduler="constant",
    max_length=256,
    score_tokens=2048,
    trainable="head",
)
# Hard labels of a share of the pool: a temperature, which a fold's own labels set,
# decides nothing here.
PARAMS = EvolutionParams(
    status_rule="quantile",
    quantile=0.5,
    min_count=1,
    labels="hard",
    folds=FOLDS,
    patience=9,
    committee=CommitteeParams(folds=2, rounds=1),
)


@pytest.fixture
def evolution(sft_model, unlabeled, table, train_rows):
    """Make a loop on 24 labels, some of them turned round; none is held out."""

    def make(turned=(), **changes):
        rows = [
            {**row, "chosen": row["rejected"], "rejected": row["chosen"]}
            if number in turned
            else row
            for number, row in enumerate(train_rows[:24])
        ]
        data = EvolutionData(
            labeled_pairs=table(f"labels-{len(turned)}", rows, LABELED),
            validation_pairs=table("none", [], LABELED),
            unlabeled_pairs=unlabeled,
            sft_model=sft_model,
        )
        params = PARAMS.model_copy(update=changes)
        return EvolutionLoop(data, params, REWARD, seed=0, max_loops=1)

    return make


def column(table, name):
    return read_table(table)[name].to_pylist()


def test_folds_share_no_pair_and_no_prompt_and_leave_none_out(project, labeled):
    folds = cut_into_folds(labeled, FOLDS, 0, EvolutionLoop.launcher)

    assert len(folds) == FOLDS
    held = [name for _, part in folds for name in column(part, "pair_id")]
    assert sorted(held) == sorted(column(labeled, "pair_id"))
    for rest, part in folds:
        assert rest.rows + part.rows == labeled.rows
        for name in ("pair_id", "group"):
            assert not set(column(rest, name)) & set(column(part, name))


def test_labels_of_one_prompt_cannot_be_cut(project, train_rows):
    rows = [{**row, "group": "one"} for row in train_rows[:4]]
    pairs = put_table("one", rows, LABELED)

    with pytest.raises(DataError, match="all 4 labelled pairs are of one prompt"):
        run(FoldsJob(pairs=pairs, count=2, seed=0))


def test_a_model_is_judged_by_models_of_the_other_folds(evolution):
    loop = evolution()

    state = loop.run()

    trained = [record.model for record in state.records if record.model]
    assert len(trained) > 1
    for number, model in enumerate(trained):
        chosen, rejected = validation_rewards(model)
        unseen = []
        for fold in loop._folds():
            judge = fold.model_of(number)
            scores = read_table(
                score_pairs(
                    judge, fold.data.validation_pairs, REWARD.scoring, loop.launcher
                )
            )
            rewards = scores["reward_a"].to_numpy() - scores["reward_b"].to_numpy()
            unseen.append(rewards)
        np.testing.assert_allclose(
            chosen - rejected, np.concatenate(unseen), atol=1e-4, rtol=1e-4
        )
        assert Calibration.of(model).temperature > 0


@pytest.mark.parametrize("leak", [False, True])
@pytest.mark.parametrize("labeller", ["model", "committee"])
def test_what_is_said_of_a_fold_does_not_depend_on_its_labels(
    evolution, labeller, leak
):
    """The planted leak: the fold's judge is the model that has seen all labels."""
    loop = evolution(labeller=labeller)
    _, held = cut_into_folds(loop.data.labeled_pairs, FOLDS, 0, loop.launcher)[0]
    names = set(column(held, "pair_id"))
    every = column(loop.data.labeled_pairs, "pair_id")
    turned = tuple(n for n, name in enumerate(every) if name in names)

    found = []
    for labels in ((), turned):
        other = evolution(labels, labeller=labeller)
        judge = other if leak else other._folds()[0]
        model = judge.model_of(1)
        scores = score_pairs(
            model, other.data.unlabeled_pairs, REWARD.scoring, loop.launcher
        )
        found.append(read_table(scores)["reward_a"].to_numpy())

    same = np.allclose(*found, atol=1e-3)
    assert same is not leak


def test_what_the_frozen_model_reads_is_not_copied_for_folds(evolution):
    """One table of the labels and one of the pool."""
    loop = evolution(labeller="committee")

    loop.run()

    rows = [loop.data.labeled_pairs.rows, loop.data.unlabeled_pairs.rows]
    loop.judged_committee()
    tables = [read_json(each / RESULT)["outputs"] for each in finished("features")]
    assert sorted(made["features"]["rows"] for made in tables) == rows


def test_a_committee_is_judged_by_committees_of_the_other_folds(evolution):
    loop = evolution(labeller="committee")

    judged = loop.judged_committee()

    unseen = []
    for fold in loop._folds():
        held = fold.data.validation_pairs
        scores = read_table(
            score_pairs(fold.committee(), held, REWARD.scoring, loop.launcher)
        )
        unseen.append(scores["reward_a"].to_numpy() - scores["reward_b"].to_numpy())
    chosen, rejected = validation_rewards(judged)
    np.testing.assert_allclose(chosen - rejected, np.concatenate(unseen), atol=1e-4)


@pytest.mark.parametrize(
    ("standard_errors", "when", "outcome"),
    [(-99, "if_better", "improved"), (99, "if_better", "no_gain")],
)
def test_the_committee_is_kept_where_it_is_better_on_unseen_labels(
    evolution, standard_errors, when, outcome
):
    loop = evolution(
        labeller="committee", keep_committee=when, standard_errors=standard_errors
    )
    state = loop.begin(loop.seed_model())

    finished = loop.finish(state)

    record = finished.records[-1]
    status = "co-trained" if record.model.metrics["co_trained"] else "committee"
    assert (record.status, record.loop) == (status, 1)
    assert record.model == loop.judged_committee()
    assert record.outcome == outcome
    assert (finished.best, finished.best_loop) == (
        (record.model, 1) if outcome == "improved" else (state.best, 0)
    )
    assert record.difference is not None and record.standard_error > 0


def test_a_committee_that_learned_from_the_pool_is_told_from_one_that_did_not(
    evolution,
):
    found = []
    for co_training in ("never", "always"):
        committee = PARAMS.committee.model_copy(update={"co_training": co_training})
        loop = evolution(labeller="committee", committee=committee)
        found.append(loop.finish(loop.begin(loop.seed_model())).records[-1].status)

    assert found == ["committee", "co-trained"]


@pytest.mark.parametrize(
    "changes", [{"keep_committee": "never"}, {"labeller": "model"}]
)
def test_it_is_no_candidate_where_it_is_not_wanted(evolution, changes):
    loop = evolution(**{"labeller": "committee", **changes})
    state = loop.begin(loop.seed_model())

    assert loop.finish(state) is state


def test_a_kept_committee_learns_from_held_out_labels_in_the_end(
    sft_model, labeled, validation, unlabeled
):
    params = PARAMS.model_copy(
        update={"labeller": "committee", "standard_errors": -99, "refit": True}
    )
    data = EvolutionData(
        labeled_pairs=labeled,
        validation_pairs=validation,
        unlabeled_pairs=unlabeled,
        sft_model=sft_model,
    )
    loop = EvolutionLoop(data, params, REWARD, seed=0, max_loops=1)

    state = loop.finish(loop.begin(loop.seed_model()))

    _, considered, refitted = state.records
    assert considered.model.metrics["validation_pairs"] == validation.rows
    assert refitted.status == "refit 1" and state.best == refitted.model
    assert state.best.metrics["labels"] == labeled.rows + validation.rows
    temperature = Calibration.of(considered.model).temperature
    assert Calibration.of(state.best).temperature == temperature


def test_labels_that_are_held_out_may_be_none(evolution):
    loop = evolution()

    assert loop.committee(loop.data.validation_pairs) == loop.committee()


def test_nothing_is_left_to_refit(evolution):
    state = evolution().begin(evolution().seed_model())

    assert evolution(refit=True).refit(state) is state
