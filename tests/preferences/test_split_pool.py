"""The split where the pool is a file of its own, without labels."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ser_kedro.errors import DataError
from ser_kedro.preferences.demo_world.world import WorldParams, draw_pairs
from ser_kedro.preferences.source import PreferenceSource
from ser_kedro.preferences.split import SplitParams
from ser_kedro.preferences.split_job import SplitJob
from ser_kedro.store.json_io import read_json
from ser_kedro.store.tables import map_table

PAIRS = list(draw_pairs(WorldParams(pairs=460), "train"))
LABELLED, POOL = PAIRS[:60], PAIRS[60:]
NAMES = (
    *("sft_pairs", "labeled_pairs", "validation_pairs", "test_pairs"),
    *("unlabeled_pairs", "audit_labels", "pool_prompts", "ppo_prompts"),
)


def record(pair):
    return {
        "prompt": pair.prompt[0].content,
        "chosen": pair.chosen,
        "rejected": pair.rejected,
        **({"annotator": pair.annotator} if pair.annotator else {}),
    }


def answers(pair):
    return {"prompt": pair.prompt[0].content, "responses": [pair.chosen, pair.rejected]}


def write(path, records):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(one) + "\n" for one in records))
    return str(path)


def split(folder, labelled, pool, test=None, **options):
    raw = folder.with_name(f"{folder.name}_raw")
    folder.mkdir(parents=True)
    places = {
        "path": write(raw / "train.jsonl", map(record, labelled)),
        "pool_path": write(raw / "pool.jsonl", pool),
    }
    if test is not None:
        places["test_path"] = write(raw / "test.jsonl", map(record, test))
    source = PreferenceSource(**places, **options)
    made = SplitJob(source=source, params=SplitParams(validation="holdout")).work(
        folder
    )
    tables = {name: map_table(folder / made[name].path).to_pylist() for name in NAMES}
    return tables | {"report": read_json(folder / made["data_report"].path)}


def asked(rows):
    return {row["prompt"][-1]["content"] for row in rows}


def ids(rows):
    return {row["pair_id"] for row in rows}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pool") / "split"
    return split(folder, LABELLED, map(answers, POOL))


class TestPool:
    def test_no_label_is_hidden(self, made):
        names = ("sft_pairs", "labeled_pairs", "validation_pairs", "test_pairs")
        labelled = sum(len(made[name]) for name in names) + len(made["ppo_prompts"])

        assert labelled == pytest.approx(60, abs=2)
        labels = len(made["labeled_pairs"]) + len(made["validation_pairs"])
        assert labels == pytest.approx(60 * 0.9 * 0.65, abs=3)
        assert ids(made["unlabeled_pairs"]).isdisjoint(
            pair.pair_id for pair in LABELLED
        )

    def test_nothing_is_known_about_the_pool(self, made):
        assert made["audit_labels"] == [] and made["pool_prompts"] == []
        assert made["report"]["pool"] == "given"
        assert made["report"]["test"] == "held out"

    def test_every_row_is_accounted_for(self, made):
        account = made["report"]["rows"]["pool"]

        assert account["read"] == 400
        assert account["kept"] == len(made["unlabeled_pairs"])
        assert account["read"] == account["kept"] + sum(account["dropped"].values())

    def test_no_prompt_of_the_pool_is_held_out(self, made):
        held_out = asked(made["test_pairs"]) | asked(made["validation_pairs"])

        assert asked(made["unlabeled_pairs"]).isdisjoint(held_out)


def test_prompts_of_a_test_set_leave_the_pool_with_near_copies(tmp_path):
    test = POOL[:5]
    near = [answers(pair) for pair in POOL]
    near[0]["prompt"] = near[0]["prompt"].upper() + " "

    made = split(tmp_path / "split", LABELLED, near, test)

    assert asked(made["unlabeled_pairs"]).isdisjoint(record(p)["prompt"] for p in test)
    assert near[0]["prompt"] not in asked(made["unlabeled_pairs"])
    assert made["report"]["rows"]["pool"]["dropped"]["in_test_set"] >= 5


def test_pairs_that_have_a_label_leave_the_pool(tmp_path):
    made = split(tmp_path / "split", LABELLED, map(answers, PAIRS))

    assert ids(made["unlabeled_pairs"]).isdisjoint(pair.pair_id for pair in LABELLED)
    assert made["report"]["rows"]["pool"]["dropped"]["already_labelled"] == 60


def test_flipped_labels_of_the_pool_change_nothing(tmp_path):
    flipped = [replace(p, chosen=p.rejected, rejected=p.chosen) for p in POOL]

    one = split(tmp_path / "one", LABELLED, map(record, POOL))
    other = split(tmp_path / "other", LABELLED, map(record, flipped))

    # As texts: a margin that is not said is NaN.
    assert repr([one[name] for name in NAMES]) == repr([other[name] for name in NAMES])


def test_audit_knows_the_labels_and_nothing_else_does(tmp_path):
    flipped = [replace(p, chosen=p.rejected, rejected=p.chosen) for p in POOL]
    made = [
        split(tmp_path / name, LABELLED, map(record, pool), pool_labels="audit")
        for name, pool in (("one", POOL), ("other", flipped))
    ]

    truth = [
        {row["pair_id"]: row["a_is_chosen"] for row in m["audit_labels"]} for m in made
    ]
    assert truth[0].keys() == truth[1].keys() == ids(made[0]["unlabeled_pairs"])
    assert all(truth[0][name] != truth[1][name] for name in truth[0])
    assert made[0]["unlabeled_pairs"] == made[1]["unlabeled_pairs"]


def test_prompts_alone(tmp_path):
    prompts = [{"prompt": pair.prompt[0].content} for pair in POOL]

    made = split(tmp_path / "split", LABELLED, [*prompts, *prompts[:3]])

    assert made["unlabeled_pairs"] == [] and made["audit_labels"] == []
    given = {prompt["prompt"] for prompt in prompts}
    assert asked(made["pool_prompts"]) < given
    assert len(asked(made["pool_prompts"])) == len(made["pool_prompts"]) > 300
    assert made["report"]["rows"]["pool"]["recognised"].startswith("prompts")


def test_a_pool_of_the_test_sets_prompts(tmp_path):
    with pytest.raises(DataError, match="pool is left: 20 have prompts of the"):
        split(tmp_path / "split", LABELLED, map(answers, POOL[:20]), POOL[:20])


def test_votes_of_annotators_reach_the_tables(tmp_path):
    doubted = [replace(p, chosen=p.rejected, rejected=p.chosen) for p in LABELLED]
    said = {"ann": LABELLED, "bob": LABELLED, "cleo": doubted}
    votes = [
        replace(pair, annotator=name) for name, pairs in said.items() for pair in pairs
    ]

    made = split(tmp_path / "split", [*votes, *LABELLED], map(answers, POOL))

    names = ("sft_pairs", "labeled_pairs", "validation_pairs", "test_pairs")
    rows = [row for name in names for row in made[name]]
    right = {pair.pair_id: pair.chosen for pair in LABELLED}
    assert {row["soft_label"] for row in rows} == {0.75}
    assert {row["annotators"] for row in rows} == {"ann, bob, cleo"}
    assert all(row["chosen"] == right[row["pair_id"]] for row in rows)


def test_a_pool_that_is_labelled_already(tmp_path):
    with pytest.raises(DataError, match="left: 60 have a label already; give other"):
        split(tmp_path / "split", LABELLED, map(answers, LABELLED))
