from dataclasses import replace

import numpy as np
import pytest
import torch

from ser_kedro.errors import ModelError
from ser_kedro.launch.executor import run
from ser_kedro.models import pack
from ser_kedro.models.calibration import Calibration
from ser_kedro.models.pack import Packing
from ser_kedro.models.params import Scoring
from ser_kedro.models.reward_model import load_reward_model
from ser_kedro.models.score_job import ScoreJob
from ser_kedro.models.score_table import SHARDS
from ser_kedro.models.scorer import Scorer
from ser_kedro.preferences.schema import UNLABELED
from ser_kedro.self_evolution.loop import EvolutionLoop
from ser_kedro.self_evolution.params import EvolutionParams
from ser_kedro.self_evolution.selection import REMAINING, SelectJob
from ser_kedro.self_evolution.state import EvolutionData
from ser_kedro.store.json_io import write_json
from ser_kedro.store.layout import project_root
from ser_kedro.store.references import ModelRef
from ser_kedro.store.tables import read_table
from ser_kedro.training.params import RewardParams

REWARD = RewardParams(
    learning_rate=1e-2, epochs=1, batch_size=8, scheduler="linear", max_length=256
)


@pytest.fixture
def reward_model(sft_model):
    """The tiny model with a random head, made louder so that rewards differ."""
    model, tokenizer = load_reward_model(sft_model.location, seed=1)
    torch.nn.init.normal_(model.score.weight, std=5)
    model.save_pretrained(sft_model.location)
    tokenizer.save_pretrained(sft_model.location)
    return sft_model.model_copy(update={"kind": "reward_model"})


@pytest.fixture
def scorer(reward_model):
    return Scorer.load(reward_model.location, Scoring(max_length=256, score_tokens=512))


@pytest.fixture
def pairs(scorer, unlabeled):
    rows = read_table(unlabeled).to_pydict()
    return scorer.encoder.pairs(rows["prompt"], rows["response_a"], rows["response_b"])


def one_by_one(scorer, pairs):
    with torch.no_grad():
        return [
            tuple(
                scorer.model(torch.tensor([pair.prompt + ids])).logits.item()
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


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("tokens", [8, 200, 512, 10**6])
def test_batches_by_length_score_as_one_by_one(reward_model, pairs, tokens, packing):
    scoring = Scoring(max_length=256, score_tokens=tokens, packing=packing)
    scorer = Scorer.load(reward_model.location, scoring)

    rewards = scorer.rewards(pairs)

    assert scorer.packing.exact is packing
    np.testing.assert_allclose(rewards, one_by_one(scorer, pairs), atol=1e-5)
    assert np.ptp(rewards) > 0.1


@pytest.mark.parametrize("packing", [True, False])
def test_in_bf16_rewards_are_near_those_in_fp32(reward_model, pairs, packing):
    """All weights but the head's, and autocast where finer rounding is asked."""
    scoring = Scoring(max_length=256, score_tokens=512, packing=packing)
    exact = Scorer.load(reward_model.location, scoring).rewards(pairs)
    half = scoring.model_copy(update={"precision": "bf16"})
    gaps = []
    for finely, embedding in ((True, torch.float32), (False, torch.bfloat16)):
        scorer = Scorer.load(reward_model.location, half, finely=finely)
        kinds = {name: p.dtype for name, p in scorer.model.named_parameters()}
        assert kinds["score.weight"] == torch.float32
        assert kinds["model.embed_tokens.weight"] == embedding
        assert kinds["model.layers.0.mlp.up_proj.weight"] == torch.bfloat16
        assert scorer.packing.exact is packing
        gaps.append(np.abs(scorer.rewards(pairs) - exact).mean())
    # A random head makes much of little: rewards have a mean of -21.
    assert 0 < gaps[0] < gaps[1] < 0.2 * exact.std()


def test_settled_it_scores_as_what_was_loaded(reward_model, pairs):
    """A training judges its model by the arithmetic that labels by it."""
    half = Scoring(max_length=256, score_tokens=512, precision="bf16")
    loaded = Scorer.load(reward_model.location, half)
    model, tokenizer = load_reward_model(reward_model.location, seed=0)
    choice = pack.enable(model, bf16=True)
    trained = Scorer(model, loaded.encoder, choice, 512, bf16=True)
    assert not np.array_equal(trained.rewards(pairs), loaded.rewards(pairs))
    np.testing.assert_array_equal(
        trained.settled().rewards(pairs), loaded.rewards(pairs)
    )


def test_rows_that_do_not_fit_stay_plain_beside_those_that_do(scorer, pairs):
    lengths = sorted(len(p.prompt) + len(p.a) + len(p.b) for p in pairs)
    some = replace(scorer, packing=Packing(True, "sdpa", longest=lengths[24]))

    np.testing.assert_allclose(
        some.rewards(pairs), one_by_one(scorer, pairs), atol=1e-5
    )


def test_each_distinct_response_is_scored_once_behind_its_prompt(scorer, pairs):
    first, second = pairs[:2]
    again = replace(first, a=first.b, b=second.a)
    seen = []
    hook = scorer.model.base_model.register_forward_pre_hook(
        lambda module, args, inputs: seen.append(inputs["input_ids"].numel()),
        with_kwargs=True,
    )

    rewards = scorer.rewards([first, again, first])

    hook.remove()
    tokens = len(first.prompt) + len(first.a) + len(first.b) + len(second.a)
    assert seen == [tokens]
    np.testing.assert_allclose(
        rewards, one_by_one(scorer, [first, again, first]), atol=1e-5
    )


def test_the_reward_is_read_at_the_eos(scorer, pairs):
    pair = pairs[0]

    reward = scorer.rewards([pair])[0][0]

    ids = torch.tensor([pair.prompt + pair.a])
    assert ids[0, -1] == scorer.encoder.tokenizer.eos_token_id
    with torch.no_grad():
        hidden = scorer.model.model(ids).last_hidden_state[0, -1]
        assert reward == pytest.approx(scorer.model.score(hidden).item(), abs=1e-5)


def test_the_padding_side_of_the_tokenizer_does_not_matter(scorer, unlabeled):
    table = read_table(unlabeled).slice(0, 8)
    right = scorer.table_rewards(table)

    scorer.encoder.tokenizer.padding_side = "left"

    np.testing.assert_array_equal(scorer.table_rewards(table), right)


def test_scores_keep_the_order_of_the_table(score, scorer, pairs, unlabeled):
    scores = read_table(score()).to_pydict()

    assert scores["row"] == list(range(48))
    assert scores["pair_id"] == read_table(unlabeled)["pair_id"].to_pylist()
    both = list(zip(scores["reward_a"], scores["reward_b"]))
    np.testing.assert_allclose(both, one_by_one(scorer, pairs), atol=1e-5)


def test_shards_do_not_change_scores(score, monkeypatch):
    whole = read_table(score())
    monkeypatch.setattr("ser_kedro.models.score_table.SHARD", 7)

    parts = read_table(score(score_tokens=513))

    assert parts["row"].to_pylist() == whole["row"].to_pylist()
    for name in ("reward_a", "reward_b"):
        np.testing.assert_allclose(parts[name], whole[name], atol=1e-5)


def test_scoring_goes_on_at_the_shard_where_it_was_cut_off(
    score, unlabeled, monkeypatch
):
    monkeypatch.setattr("ser_kedro.models.score_table.SHARD", 16)
    whole = read_table(score(score_tokens=513)).to_pydict()
    batch_rewards, sizes = Scorer.batch_rewards, []

    def break_off(self, batch):
        if len(sizes) == 2:
            sizes.append(None)
            raise KeyboardInterrupt
        sizes.append(batch.num_rows)
        return batch_rewards(self, batch)

    monkeypatch.setattr(Scorer, "batch_rewards", break_off)
    with pytest.raises(KeyboardInterrupt):
        score()

    scores = score()

    assert sizes == [16, 16, None, 16]
    np.testing.assert_allclose(
        read_table(scores)["reward_a"], whole["reward_a"], atol=1e-5
    )
    assert not (scores.location.parent / SHARDS).exists()


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
    seed = ModelRef(kind="reward_model", path="seed", fingerprint="seed")
    data = EvolutionData(
        labeled_pairs=pool,
        validation_pairs=pool,
        unlabeled_pairs=pool,
        sft_model=seed,
    )
    loop = EvolutionLoop(data, EvolutionParams(), REWARD, seed=0, max_loops=3)
    return loop.judge_progress(loop.begin(seed), seed, scores, selection, remaining)


def test_an_exhausted_pool_stops(score, unlabeled, table):
    scores = score(rows=table("rows", [], REMAINING))

    selection, remaining = select(scores, unlabeled)

    assert (scores.rows, selection.rows, remaining.rows) == (0, 0, 0)
    assert selection.status == "stop"
    state = judged(selection, remaining, scores, pool=unlabeled)
    assert state.records[-1].stop_reason == "no_confident_pairs"


def test_a_pool_that_was_never_there_stops(score, table):
    unlabeled = table("none", [], UNLABELED)
    scores = score(pairs=unlabeled)

    state = judged(*select(scores, unlabeled), scores, pool=unlabeled)

    assert state.records[-1].stop_reason == "pool_empty"
    assert state.records[-1].pool_left == 0
    assert state.best_loop == 0


def test_a_collapsed_model_selects_nothing_and_is_called_so(score, unlabeled, table):
    scores = score(rows=table("rows", [], REMAINING))

    selected = select(scores, unlabeled)
    state = judged(*selected, scores, pool=unlabeled, rewards=(0.0, 0.0))

    assert state.records[-1].outcome == "collapsed"


def test_out_of_memory_halves_the_pass_and_goes_on(scorer, pairs, monkeypatch, caplog):
    expected = scorer.rewards(pairs)
    sizes, forward = [], Scorer._forward

    def limited(self, rows, packed):
        sizes.append(len(rows))
        if len(rows) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, rows, packed)

    monkeypatch.setattr(Scorer, "_forward", limited)
    found = replace(scorer, tokens=10**6).rewards(pairs)

    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert "Out of memory: going on with passes of" in caplog.text
    tried = [size for size in sizes if size > 2]
    assert tried == sorted(tried, reverse=True)  # none is tried twice
    assert len(tried) < 10


def test_out_of_memory_with_a_single_row_is_one_line(scorer, pairs, monkeypatch):
    def none(self, rows, packed):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Scorer, "_forward", none)

    with pytest.raises(ModelError, match="scoring: out of memory; lower"):
        scorer.rewards(pairs)
