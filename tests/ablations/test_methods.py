"""Methods are what their definitions say, and honest ones cannot see the truth."""

import json
import os
from dataclasses import fields, replace

import numpy as np
import pytest

from ser_kedro.ablations import methods
from ser_kedro.ablations.control_loop import ControlLoop
from ser_kedro.ablations.methods import CONTROLS, HONEST, run_method
from ser_kedro.ablations.outcome_job import OUTCOMES, GatherJob, OutcomeJob
from ser_kedro.ablations.params import AblationParams
from ser_kedro.errors import ParameterError
from ser_kedro.launch.executor import run
from ser_kedro.models.calibration import Calibration
from ser_kedro.models.reward_model import load_reward_model
from ser_kedro.models.scoring import score_pairs
from ser_kedro.pipelines.self_evolve.nodes import finish
from ser_kedro.preferences.schema import AUDIT, LABELED
from ser_kedro.self_evolution.loop import EvolutionLoop
from ser_kedro.self_evolution.params import EvolutionParams
from ser_kedro.self_evolution.refit import RefitJob
from ser_kedro.self_evolution.state import EvolutionData
from ser_kedro.store.json_io import read_json
from ser_kedro.store.layout import RESULT, finished, project_root
from ser_kedro.store.references import ModelRef, TableRef
from ser_kedro.store.tables import map_table, read_table
from ser_kedro.training.committee_params import CommitteeParams
from ser_kedro.training.params import RewardParams

pytestmark = pytest.mark.slow

# Heads train in a blink, and all that a method does is the same.
REWARD = RewardParams(
    learning_rate=1e-2,
    epochs=4,
    batch_size=8,
    scheduler="linear",
    max_length=256,
    trainable="head",
)
EVOLUTION = EvolutionParams(
    tau_high=0.5,
    tau_low=0.5,
    min_count=1,
    min_share=0.0,
    standard_errors=0.0,
    collapse_standard_errors=1e9,
    patience=3,
)


@pytest.fixture
def truth(unlabeled, train_rows):
    chosen = {row["pair_id"]: row["chosen"] for row in train_rows}
    return {
        row["pair_id"]: row["response_a"] == chosen[row["pair_id"]]
        for row in read_table(unlabeled).to_pylist()
    }


@pytest.fixture
def loop(table, labeled, validation, unlabeled, sft_model, truth):
    rows = [{"pair_id": pair, "a_is_chosen": a} for pair, a in reversed(truth.items())]
    data = EvolutionData(
        labeled_pairs=labeled,
        validation_pairs=validation,
        unlabeled_pairs=unlabeled,
        sft_model=sft_model,
    )
    return ControlLoop(
        data=data,
        params=EVOLUTION,
        reward=REWARD,
        seed=5,
        max_loops=3,
        audit_labels=table("audit", rows, AUDIT),
    )


def job_of(model):
    return json.loads((model.location.parent / "result.json").read_text())["job"]


def trained_on(model):
    """The training tables of a model, joined: pair_id → preferred response."""
    rows = []
    for reference in job_of(model)["pairs"]:
        path = project_root() / reference["path"]
        rows += map_table(path).to_pylist()
    assert len({row["pair_id"] for row in rows}) == len(rows)
    return {row["pair_id"]: row["chosen"] for row in rows}


def human(rows):
    return {row["pair_id"]: row["chosen"] for row in rows}


@pytest.fixture
def everyone(train_rows):
    """What people preferred, of every pair."""
    return human(train_rows)


def selections(state):
    return [record.selection for record in state.records if record.selection]


def pairs_of(table):
    return read_table(table)["pair_id"].to_pylist()


def test_seed_is_the_labelled_pairs(loop, labeled):
    method = run_method("seed", loop)
    assert trained_on(method.model) == human(read_table(labeled).to_pylist())
    assert method.labels == 32 and method.state is None


def test_seed_all_is_every_label_that_evolution_has(loop, labeled):
    method = run_method("seed_all", loop)
    tables = labeled, loop.data.validation_pairs
    known = human(row for each in tables for row in read_table(each).to_pylist())
    assert trained_on(method.model) == known
    assert method.labels == len(known) > 32


def test_seed_long_takes_the_steps_of_ser(loop):
    ser, long = run_method("ser", loop), run_method("seed_long", loop)
    taken = [r.model.metrics["steps"] for r in ser.state.records if r.model]
    assert len(taken) > 1
    assert abs(long.model.metrics["steps"] - sum(taken)) <= 1
    assert trained_on(long.model) == trained_on(run_method("seed", loop).model)
    assert (
        job_of(long.model)["start"] == job_of(run_method("seed", loop).model)["start"]
    )


@pytest.mark.parametrize("loops", [3, 0])
def test_refit_takes_the_labels_that_chose_the_loop(loop, loops):
    """Of a loop, and of the seed model where that was kept."""
    loop = replace(loop, max_loops=loops)
    plain = run_method("ser", loop)
    kept_loop = plain.state.best_loop
    assert (kept_loop > 0) == (loops > 0)
    refitted = replace(loop, params=EVOLUTION.model_copy(update={"refit": True}))
    method = run_method("ser", refitted)
    trained = ModelRef.model_validate(job_of(method.model)["model"])
    validation = human(read_table(loop.data.validation_pairs).to_pylist())
    before = trained_on(plain.model)
    assert validation.keys().isdisjoint(before)
    assert trained_on(trained) == before | validation
    assert job_of(trained)["start"] == job_of(plain.model)["start"]
    assert job_of(trained)["seed"] == job_of(plain.model)["seed"]
    assert method.labels == plain.labels + len(validation)
    assert (method.state.best_loop, method.state.records[-1].status) == (
        plain.state.loop + 1,
        f"refit {kept_loop}",
    )
    found, kept = (Calibration.of(m) for m in (method.model, plain.model))
    assert found.temperature == kept.temperature
    assert found.offset == Calibration.of(trained).offset
    assert "validation_accuracy" not in method.model.metrics
    # The last selection can be scored by it like by any other model.
    scores = score_pairs(
        method.model, loop.data.unlabeled_pairs, REWARD.scoring, loop.launcher
    )
    assert np.ptp(read_table(scores)["reward_a"].to_numpy()) > 0


def test_the_node_refits_too(loop):
    evolution = EVOLUTION.model_copy(update={"refit": True, "plain": False})
    method = run_method("ser", replace(loop, params=evolution))
    model, history = finish(
        run_method("ser", loop).state,
        self_evolve=evolution,
        reward=REWARD,
        seed=loop.seed,
        launcher=loop.launcher,
    )
    assert model == method.model
    assert history == method.state and history.records[-1].outcome == "refit"


def test_refit_learns_the_human_labels_whatever_the_loops_did(loop):
    changes = {"refit": True, "keep_seed_labels": False}
    method = run_method(
        "ser", replace(loop, params=EVOLUTION.model_copy(update=changes))
    )
    trained = trained_on(ModelRef.model_validate(job_of(method.model)["model"]))
    for table in (loop.data.labeled_pairs, loop.data.validation_pairs):
        assert human(read_table(table).to_pylist()).items() <= trained.items()


def test_an_interrupted_refit_goes_on(loop, project, monkeypatch):
    """With files half linked, adapters beside the model, and no hard links at all."""
    kept = run_method("ser", loop).model
    (kept.location.parent / "adapter").mkdir()
    (kept.location.parent / "adapter" / "weights").write_text("low rank")
    job = RefitJob(model=kept, held_out=kept)
    monkeypatch.setattr(os, "link", refuse)
    workspace = project / "workspace"
    for _ in range(2):
        output = job.work(workspace)["model"]
    files = {path.name for path in kept.location.iterdir()} - {"validation.json"}
    assert {path.name for path in (workspace / output.path).iterdir()} == files
    assert (workspace / "adapter" / "weights").read_text() == "low rank"


def refuse(*_):
    raise OSError("no hard links here")


def test_full_is_every_label(loop, everyone, labeled, unlabeled):
    known = {*pairs_of(labeled), *pairs_of(unlabeled)}
    method = run_method("full", loop)
    expected = {pair: everyone[pair] for pair in known}
    assert trained_on(method.model) == expected
    assert method.labels == len(expected)


def test_random_labels_are_of_the_same_pairs_and_half_wrong(loop, everyone, labeled):
    labels = trained_on(run_method("random_labels", loop).model)
    assert set(labels) == set(pairs_of(labeled))
    right = np.mean([labels[pair] == everyone[pair] for pair in labels])
    assert 0.2 < right < 0.8


def test_random_labels_do_not_depend_on_the_labels(loop, table, labeled):
    swapped = [
        row | {"chosen": row["rejected"], "rejected": row["chosen"]}
        for row in read_table(labeled).to_pylist()
    ]
    changed = {"labeled_pairs": table("swapped", swapped, LABELED)}
    other = replace(loop, data=loop.data.model_copy(update=changed))
    one, two = (trained_on(run_method("random_labels", r).model) for r in (loop, other))
    assert one == two


def test_ser_learns_from_its_selections(loop, labeled):
    state = run_method("ser", loop).state
    first = state.records[1]
    labels = trained_on(first.model)
    chosen = {row["pair_id"]: row["chosen"] for row in rows(first.selection)}
    assert chosen and labels == chosen | human(rows(labeled))


def rows(table):
    return read_table(table).to_pylist()


def test_naive_labels_everything_once(loop, unlabeled, labeled):
    method = run_method("naive", loop)
    (record,) = method.state.records[1:]
    scores = score_pairs(
        run_method("seed", loop).model, unlabeled, REWARD.scoring, loop.launcher
    )
    expected = {}
    for pair, score in zip(rows(unlabeled), rows(scores), strict=True):
        first = score["reward_a"] > score["reward_b"]
        expected[pair["pair_id"]] = pair["response_a" if first else "response_b"]
    assert trained_on(method.model) == expected | human(rows(labeled))
    assert record.selected == len(expected) == unlabeled.rows


def test_ssrm_appends_what_it_is_sure_of(loop):
    surer = {"fit_temperature": False, "epochs": 40, "learning_rate": 0.1}
    loop = replace(loop, reward=REWARD.model_copy(update=surer))
    method = run_method("ssrm", loop)
    records = [record for record in method.state.records if record.selected]
    assert records
    for record in records:
        for row in rows(record.selection):
            odds = [row[n] / (1 - row[n]) for n in ("p_chosen", "p_rejected")]
            assert odds[0] / sum(odds) > 0.8
    appended = {pair for record in records for pair in pairs_of(record.selection)}
    assert set(trained_on(method.model)) == appended | set(
        pairs_of(loop.data.labeled_pairs)
    )
    # From the SFT model, not from the loop before.
    assert (
        job_of(method.model)["start"]["fingerprint"] == loop.data.sft_model.fingerprint
    )
    assert method.model == records[-1].model


@pytest.mark.parametrize("labels", ["hard", "soft"])
def test_oracle_is_sers_pairs_with_true_labels(loop, everyone, labels):
    evolution = loop.params.model_copy(update={"labels": labels})
    loop = replace(loop, params=evolution)
    honest, told = run_method("ser", loop), run_method("oracle", loop)
    one, two = selections(honest.state), selections(told.state)
    assert len(two) >= 1
    wrong = 0
    for mine, true in zip(one, two):
        assert pairs_of(mine) == pairs_of(true)
        for before, after in zip(rows(mine), rows(true), strict=True):
            assert after["chosen"] == everyone[after["pair_id"]]
            flipped = before["chosen"] != after["chosen"]
            assert flipped == (before["a_preferred"] != after["a_preferred"])
            assert {before["chosen"], before["rejected"]} == {
                after["chosen"],
                after["rejected"],
            }
            wrong += flipped
    assert wrong > 0


@pytest.mark.parametrize("labels", ["hard", "soft"])
def test_leaky_keeps_right_self_labels_alone(loop, everyone, labels):
    evolution = loop.params.model_copy(update={"labels": labels})
    loop = replace(loop, params=evolution)
    honest, cleaned = run_method("ser", loop), run_method("leaky", loop)
    first, kept = selections(honest.state)[0], selections(cleaned.state)[0]
    right = [row for row in rows(first) if row["chosen"] == everyone[row["pair_id"]]]
    assert rows(kept) == right
    assert 0 < len(right) < first.rows
    assert kept.status == first.status


def test_more_human_has_as_many_labels_as_ser_gave(loop, everyone):
    given = sum(record.selected for record in run_method("ser", loop).state.records)
    method = run_method("more_human", loop)
    labels = trained_on(method.model)
    assert given > 0 and len(labels) == method.labels == 32 + given
    assert all(labels[pair] == everyone[pair] for pair in labels)


class TestBlindness:
    def test_a_loop_has_no_truth(self, loop):
        honest = loop.honest()
        assert type(honest) is EvolutionLoop
        assert "audit_labels" not in {each.name for each in fields(EvolutionLoop)}
        assert not hasattr(honest, "audit_labels")
        assert not hasattr(honest, "true_labels")

    def test_honest_arms_are_given_no_truth(self, loop, monkeypatch):
        for name in HONEST:
            seen = []
            monkeypatch.setitem(HONEST, name, seen.append)
            run_method(name, loop)
            assert [type(each) for each in seen] == [EvolutionLoop]

    @pytest.mark.parametrize("name", ["ser", "ssrm", "naive", "seed_all", "seed_long"])
    def test_permuted_truth_changes_nothing_honest(self, loop, table, name):
        permuted = self.flipped(loop, table)
        assert run_method(name, loop) == run_method(name, permuted)

    def test_permuted_truth_changes_a_leak(self, loop, table):
        permuted = self.flipped(loop, table)
        for name in ("leaky", "oracle", "full"):
            one, two = run_method(name, loop), run_method(name, permuted)
            before = selections(one.state) if one.state else one.model
            assert before != (selections(two.state) if two.state else two.model)

    def flipped(self, loop, table):
        told = [
            r | {"a_is_chosen": not r["a_is_chosen"]} for r in rows(loop.audit_labels)
        ]
        return replace(loop, audit_labels=table("flipped", told, AUDIT))


@pytest.mark.parametrize(
    "changes",
    [
        {"evolution": {"start": "previous"}},
        {"evolution": {"labels": "hard"}},
        {"evolution": {"status_rule": "quantile", "quantile": 0.5}},
        {"evolution": {"balance": "length"}},
        {"evolution": {"dropout": 0.3}},
        {"reward": {"voters": 2, "dropout": 0.2}},
    ],
    ids=str,
)
def test_every_switch_makes_another_model(loop, changes):
    plain = run_method("ser", loop).state.records[1]
    evolution = EVOLUTION.model_copy(update=changes.get("evolution", {}))
    reward = REWARD.model_copy(update=changes.get("reward", {}))
    changed = run_method("ser", replace(loop, params=evolution, reward=reward))
    record = changed.state.records[1]
    assert record.model is not None
    assert record.model.fingerprint != plain.model.fingerprint
    if evolution.labels == "hard":
        assert "soft_label" not in read_table(record.selection).column_names
    else:
        soft = read_table(record.selection)["soft_label"].to_numpy()
        assert ((soft > 0.5) & (soft <= 1)).all() and np.ptp(soft) > 0
    if evolution.status_rule == "quantile":
        assert record.selected == loop.data.unlabeled_pairs.rows / 2
    if evolution.balance == "length":
        longer = [len(r["chosen"]) > len(r["rejected"]) for r in rows(record.selection)]
        assert sum(longer) * 2 == len(longer) > 0


def test_loops_averaged_lie_between_their_ends(loop):
    reward = REWARD.model_copy(update={"trainable": "full", "epochs": 1})
    evolution = EVOLUTION.model_copy(update={"average": "loops"})
    plain = replace(loop, reward=reward, max_loops=1)
    averaged = replace(plain, params=evolution)
    own = run_method("ser", plain).state.records[1].model
    mean = run_method("ser", averaged).state.records[1].model
    start = plain.seed_model()
    states = [load_reward_model(m.location, 0)[0].state_dict() for m in (start, own)]
    found = load_reward_model(mean.location, 0)[0].state_dict()
    for name, value in found.items():
        half = (states[0][name] + states[1][name]) / 2
        np.testing.assert_allclose(value, half, atol=1e-6)


def test_averaging_heads_is_refused(loop):
    evolution = EVOLUTION.model_copy(update={"average": "loops"})
    with pytest.raises(ParameterError, match="reward.trainable=full"):
        run_method("ser", replace(loop, params=evolution))


def test_outcomes_are_the_rewards_of_the_test_pairs(loop, validation):
    model = run_method("seed", loop).model
    scores = score_pairs(model, validation, REWARD.scoring, loop.launcher)
    known = Calibration.of(model)
    parts = [
        run(
            OutcomeJob(
                scores=scores,
                test_pairs=validation,
                calibration=known,
                data="demo",
                phase="development",
                study="methods",
                share=0.15,
                method="seed",
                seed=seed,
            )
        )["outcomes"]
        for seed in (1, 2)
    ]
    joined = read_table(run(GatherJob(parts=tuple(parts)))["outcomes"])
    assert joined.schema.equals(OUTCOMES)
    assert joined["seed"].to_pylist() == [1] * 12 + [2] * 12
    assert joined["pair_id"].to_pylist() == 2 * pairs_of(validation)
    assert joined["chosen_reward"].to_pylist() == 2 * [
        r["reward_a"] for r in rows(scores)
    ]
    assert set(joined["temperature"].to_pylist()) == {known.temperature}
    assert joined["excess_length"].to_pylist() == 2 * [
        len(r["chosen"]) - len(r["rejected"]) for r in rows(validation)
    ]


def test_methods_are_known_by_name():
    assert set(methods.METHODS) == set(HONEST) | set(CONTROLS)
    known = {"data": "demo", "phase": "development", "seeds": (0,)}
    known |= {"shares": (), "processes": 1}
    with pytest.raises(ParameterError, match="no method sre"):
        AblationParams(**known, methods=("sre",))
    given = AblationParams(
        **known, methods=("mine",), variants={"mine": {"method": "ser"}}
    )
    assert given.variant("mine").method == "ser"


@pytest.fixture
def small_committee(loop):
    committee = CommitteeParams(folds=2, rounds=1)
    return replace(loop, params=loop.params.model_copy(update={"committee": committee}))


def test_committees_and_their_student_use_every_label(small_committee):
    loop = small_committee
    human = loop.data.labeled_pairs.rows + loop.data.validation_pairs.rows
    found = {
        name: run_method(name, loop)
        for name in ("committee", "co_trained", "chosen_committee", "full_committee")
    }
    student = run_method("student", loop)

    assert {name: each.model.metrics["labels"] for name, each in found.items()} == {
        "committee": human,
        "co_trained": human,
        "chosen_committee": human,
        "full_committee": human + loop.data.unlabeled_pairs.rows,
    }
    assert {each.model.kind for each in found.values()} == {"committee"}
    taught = {name: each.model.metrics["co_trained"] for name, each in found.items()}
    assert (taught["committee"], taught["co_trained"]) == (0, 1)
    same_as = "co_trained" if taught["chosen_committee"] else "committee"
    test, scoring = loop.data.unlabeled_pairs, loop.reward.scoring
    rewards = {
        name: read_table(score_pairs(each.model, test, scoring, loop.launcher))[
            "reward_a"
        ].to_numpy()
        for name, each in found.items()
    }
    np.testing.assert_array_equal(rewards["chosen_committee"], rewards[same_as])
    assert not np.allclose(rewards["committee"], rewards["full_committee"])
    assert student.labels == human
    assert (
        student.model.metrics["trained_pairs"] == human + loop.data.unlabeled_pairs.rows
    )


def test_more_labels_are_asked_for_by_choice_or_at_random(small_committee):
    chosen = run_method("active", small_committee)
    random = run_method("at_random", small_committee)

    asked = [read_json(each / RESULT) for each in finished("label_requests")]
    unsure = {
        made["job"]["params"]["by"]: np.abs(
            read_table(TableRef(**made["outputs"]["label_requests"]))["p_a"].to_numpy()
            - 0.5
        )
        for made in asked
    }
    assert len(unsure["margin"]) == len(unsure["random"])
    assert unsure["margin"].max() <= np.sort(unsure["random"])[-1]
    assert unsure["margin"].mean() < unsure["random"].mean()
    assert chosen.labels == random.labels > small_committee.data.labeled_pairs.rows
    assert chosen.model.fingerprint != random.model.fingerprint
    committee = run_method("active_committee", small_committee)
    assert committee.model.kind == "committee"
    assert committee.model.metrics["labels"] == committee.labels == chosen.labels


def test_as_many_labels_are_asked_for_of_pairs_that_differ(
    small_committee, table, train_rows, everyone
):
    few = {"labeled_pairs": table("few", train_rows[:8], LABELED)}
    loop = replace(small_committee, data=small_committee.data.model_copy(update=few))
    unsure, spread = (run_method(name, loop) for name in ("active", "active_spread"))

    asked, known = {}, {}
    for each in finished("label_requests"):
        made = read_json(each / RESULT)
        requests = TableRef(**made["outputs"]["label_requests"])
        how = made["job"]["params"]["spread"]
        asked[how] = pairs_of(requests)
        known[how] = [table["fingerprint"] for table in made["job"]["labelled"]]
    one, two = asked.pop("none"), asked.pop("k_center")
    assert not asked and len(one) == len(two) == 20
    assert set(one) != set(two)
    human = (few["labeled_pairs"], loop.data.validation_pairs)
    assert known == {"none": [], "k_center": [each.fingerprint for each in human]}
    assert spread.labels == unsure.labels == 40
    labels = trained_on(spread.model)
    assert len(labels) == 40
    assert [labels[pair] for pair in two] == [everyone[pair] for pair in two]


def test_the_seed_ensemble_is_a_mean_of_models_on_every_label(loop):
    # Heads have no weights to average.
    whole = REWARD.model_copy(update={"trainable": "full", "epochs": 1})
    method = run_method("seed_ensemble", replace(loop, reward=whole))

    averaged = [
        ModelRef.model_validate(each) for each in job_of(method.model)["models"]
    ]
    every = human(rows(loop.data.labeled_pairs)) | human(
        rows(loop.data.validation_pairs)
    )
    assert [trained_on(model) for model in averaged] == [every] * methods.ENSEMBLE
    assert len({model.fingerprint for model in averaged}) == methods.ENSEMBLE
    assert method.labels == len(every)
    weights = [load_reward_model(m.location, seed=0)[0].score.weight for m in averaged]
    mean = load_reward_model(method.model.location, seed=0)[0].score.weight
    np.testing.assert_allclose(
        mean.detach(), sum(weights).detach() / methods.ENSEMBLE, atol=1e-6
    )
