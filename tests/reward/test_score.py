import numpy as np
import pyarrow as pa
import pytest
import torch

from ser_kedro.evolution.params import EvolutionParams
from ser_kedro.evolution.state import begin
from ser_kedro.launch.json import write_json
from ser_kedro.launch.reference import Reference, project_root
from ser_kedro.launch.run import run
from ser_kedro.launch.table import read_table
from ser_kedro.preferences.schema import UNLABELED
from ser_kedro.reward.calibrate import Calibration
from ser_kedro.reward.encode import Encoder
from ser_kedro.reward.model import load_reward_model
from ser_kedro.reward.score import ScoreJob, score_encoded, score_table
from ser_kedro.reward.select import REMAINING, SelectJob
from ser_kedro.reward.steps import has_stopped, judge_progress


@pytest.fixture
def reward_model(sft_model):
    """The tiny model with a random head, made louder so that rewards differ."""
    model, tokenizer = load_reward_model(sft_model.location, seed=1)
    torch.nn.init.normal_(model.score.weight, std=5)
    model.save_pretrained(sft_model.location)
    tokenizer.save_pretrained(sft_model.location)
    return sft_model.model_copy(update={"kind": "reward_model"})


@pytest.fixture
def loaded(reward_model, unlabeled):
    model, tokenizer = load_reward_model(reward_model.location, seed=0)
    encoder = Encoder(tokenizer, 256)
    rows = read_table(unlabeled).to_pydict()
    pairs = encoder.pairs(rows["prompt"], rows["response_a"], rows["response_b"])
    return model, encoder, pairs


def one_by_one(model, pairs):
    with torch.no_grad():
        return [
            tuple(
                model(torch.tensor([pair.prompt + ids])).logits.item()
                for ids in (pair.a, pair.b)
            )
            for pair in pairs
        ]


@pytest.fixture
def score(reward_model, unlabeled):
    def work(**changes):
        values = {"model": reward_model, "pairs": unlabeled, "max_length": 256}
        return run(ScoreJob(**{**values, "score_tokens": 512, **changes}))["scores"]

    return work


@pytest.mark.parametrize("tokens", [8, 200, 512, 10**6])
def test_batches_by_length_score_as_one_by_one(loaded, tokens):
    model, encoder, pairs = loaded

    rewards = score_encoded(model, pairs, encoder.tokenizer.pad_token_id, tokens)

    np.testing.assert_allclose(rewards, one_by_one(model, pairs), atol=1e-5)
    assert np.ptp(rewards) > 0.1


def test_the_reward_is_read_at_the_eos(loaded):
    model, encoder, pairs = loaded
    pair = pairs[0]

    reward = score_encoded(model, [pair], encoder.tokenizer.pad_token_id)[0][0]

    ids = torch.tensor([pair.prompt + pair.a])
    assert ids[0, -1] == encoder.tokenizer.eos_token_id
    with torch.no_grad():
        hidden = model.model(ids).last_hidden_state[0, -1]
        assert reward == pytest.approx(model.score(hidden).item(), abs=1e-5)


def test_the_padding_side_of_the_tokenizer_does_not_matter(loaded, unlabeled):
    model, encoder, _ = loaded
    table = read_table(unlabeled)

    def rewards():
        batches = score_table(model, encoder, table, range(8), 10**6)
        return pa.Table.from_batches(batches)["reward_a"].to_pylist()

    right = rewards()
    encoder.tokenizer.padding_side = "left"

    assert rewards() == right


def test_scores_keep_the_order_of_the_table(score, loaded, unlabeled):
    model, _, pairs = loaded

    scores = read_table(score()).to_pydict()

    assert scores["row"] == list(range(48))
    assert scores["pair_id"] == read_table(unlabeled)["pair_id"].to_pylist()
    both = list(zip(scores["reward_a"], scores["reward_b"]))
    np.testing.assert_allclose(both, one_by_one(model, pairs), atol=1e-5)


def test_windows_do_not_change_scores(loaded, unlabeled, monkeypatch):
    model, encoder, _ = loaded
    table = read_table(unlabeled)

    def scores():
        batches = score_table(model, encoder, table, range(48), 512)
        return pa.Table.from_batches(batches)

    whole = scores()
    monkeypatch.setattr("ser_kedro.reward.score.WINDOW", 7)
    parts = scores()

    assert parts["row"].to_pylist() == whole["row"].to_pylist()
    for name in ("reward_a", "reward_b"):
        np.testing.assert_allclose(parts[name], whole[name], atol=1e-5)


def test_a_subset_of_the_rows(score, table):
    rows = table("rows", [{"row": n} for n in (5, 2, 40)], REMAINING)

    part = read_table(score(rows=rows)).to_pylist()

    whole = read_table(score()).to_pylist()
    assert [row["row"] for row in part] == [5, 2, 40]
    for row in part:
        assert row["pair_id"] == whole[row["row"]]["pair_id"]
        assert row["reward_a"] == pytest.approx(whole[row["row"]]["reward_a"], abs=1e-5)


def test_labelled_pairs_are_scored_chosen_first(score, labeled):
    scores = read_table(score(pairs=labeled))

    assert scores["pair_id"].to_pylist() == read_table(labeled)["pair_id"].to_pylist()


def select(scores, unlabeled, **changes):
    job = SelectJob(
        scores=scores,
        pairs=unlabeled,
        loop=1,
        calibration=Calibration(),
        params=EvolutionParams(**{"min_count": 1, "min_share": 0, **changes}),
    )
    outputs = run(job)
    return outputs["selection"], outputs["remaining"]


def test_a_selection_carries_the_models_own_labels(score, unlabeled):
    scores = score()
    p_a, p_b = (
        Calibration().probabilities(read_table(scores)[name].to_numpy())
        for name in ("reward_a", "reward_b")
    )
    middle = float(np.median(abs(p_a - p_b)))

    selection, remaining = select(
        scores, unlabeled, status_rule="schedule", schedule=(2,), tau_delta=middle
    )

    rewards = {row["pair_id"]: row for row in read_table(scores).to_pylist()}
    pairs = {row["pair_id"]: row for row in read_table(unlabeled).to_pylist()}
    rows = read_table(selection).to_pylist()
    assert len(rows) == selection.rows == remaining.rows == 24
    for row in rows:
        reward, pair = rewards[row["pair_id"]], pairs[row["pair_id"]]
        prefers_a = reward["reward_a"] > reward["reward_b"]
        both = pair["response_a"], pair["response_b"]
        assert row["a_preferred"] is prefers_a
        assert (row["chosen"], row["rejected"]) == (both if prefers_a else both[::-1])
        assert row["p_chosen"] > row["p_rejected"]
    left = read_table(remaining)["row"].to_pylist()
    taken = {row["pair_id"] for row in rows}
    assert left == [i for i, id in enumerate(pairs) if id not in taken]


def test_a_selection_has_no_label_to_leak(unlabeled):
    assert set(read_table(unlabeled).column_names) == set(UNLABELED.names)
    assert not {"chosen", "rejected", "a_is_chosen"} & set(UNLABELED.names)


def judged(selection, remaining, scores, pool, rewards=(0.1, 0.2)):
    validation = {"chosen": list(rewards), "rejected": [0.0, 0.0]}
    write_json(project_root() / "seed" / "validation.json", validation)
    seed = Reference(kind="reward_model", path="seed", fingerprint="seed")
    return judge_progress(
        model=seed,
        scores=scores,
        selection=selection,
        remaining=remaining,
        state=begin(seed, pool),
        params=EvolutionParams(),
        last_loop=3,
    )


def test_an_exhausted_pool_stops(score, unlabeled, table):
    scores = score(rows=table("rows", [], REMAINING))

    selection, remaining = select(scores, unlabeled)

    assert (scores.rows, selection.rows, remaining.rows) == (0, 0, 0)
    assert has_stopped(selection)
    state = judged(selection, remaining, scores, pool=48)
    assert state.records[-1].stop_reason == "no_confident_pairs"


def test_a_pool_that_was_never_there_stops(score, table):
    unlabeled = table("none", [], UNLABELED)
    scores = score(pairs=unlabeled)

    state = judged(*select(scores, unlabeled), scores, pool=0)

    assert state.stopped
    assert state.records[-1].pool_left == 0
    assert state.best_loop == 0


def test_a_collapsed_model_selects_nothing_and_is_called_so(score, unlabeled, table):
    scores = score(rows=table("rows", [], REMAINING))

    state = judged(*select(scores, unlabeled), scores, pool=48, rewards=(0.0, 0.0))

    assert state.records[-1].outcome == "collapsed"
