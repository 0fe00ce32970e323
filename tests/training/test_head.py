"""A head alone, trained on features that its frozen model gives once."""

import shutil

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.optimize import minimize
from transformers import AutoModelForSequenceClassification

from ser_kedro.errors import ModelError
from ser_kedro.launch.executor import run
from ser_kedro.launch.params import INLINE
from ser_kedro.models.calibration import Calibration
from ser_kedro.models.features import HEAD, FeatureRows, flipped
from ser_kedro.models.features_job import BackboneJob, FeaturesJob
from ser_kedro.models.head import load_head
from ser_kedro.models.reward_model import load_reward_model
from ser_kedro.models.score_job import ScoreJob
from ser_kedro.models.scorer import Scorer
from ser_kedro.models.scoring import score_pairs
from ser_kedro.preferences.schema import LABELED, PAIRS
from ser_kedro.self_evolution.loop import EvolutionLoop
from ser_kedro.self_evolution.params import EvolutionParams
from ser_kedro.self_evolution.state import EvolutionData
from ser_kedro.self_evolution.voters import train_voters, voters_of
from ser_kedro.store.layout import finished, project_root
from ser_kedro.store.references import ModelRef
from ser_kedro.store.tables import read_table
from ser_kedro.training.params import RewardParams

pytestmark = pytest.mark.slow


def params(**changes):
    return RewardParams(
        **{
            "learning_rate": 1e-2,
            "epochs": 10,
            "batch_size": 8,
            "scheduler": "linear",
            "max_length": 256,
            "trainable": "head",
            **changes,
        }
    )


@pytest.fixture
def encoder(make_bert, project):
    """A tiny BERT, as SFT passes it on."""
    return ModelRef(
        kind="encoder",
        path=str(make_bert().relative_to(project)),
        fingerprint="bert",
    )


@pytest.fixture(params=["decoder", "encoder"])
def start(request):
    name = {"decoder": "sft_model", "encoder": "encoder"}[request.param]
    return request.getfixturevalue(name)


@pytest.fixture
def train(labeled, validation):
    def call(start, pairs=None, seed=3, **changes):
        return train_voters(
            start=start,
            pairs=(pairs or labeled,),
            validation=validation,
            params=params(**changes),
            seed=seed,
            launcher=INLINE,
        )

    return call


def columns(scores):
    table = read_table(scores)
    return np.stack([table[n].to_numpy() for n in ("reward_a", "reward_b")], axis=1)


def test_loss_falls_and_the_backbone_stays(train, start):
    model = train(start, learning_rate=3e-3, batch_size=32, epochs=40)
    assert model.metrics["last_loss"] < model.metrics["first_loss"]
    assert model.metrics["steps"] == 40
    assert model.metrics["trained_pairs"] == 32
    before = load_reward_model(start.location, 0)[0].base_model.state_dict()
    after = load_reward_model(model.location, 0)[0].base_model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_any_loader_gives_its_rewards(train, start, validation, rewards_of_texts):
    model = train(start, learning_rate=0.1)
    ours = columns(score_pairs(model, validation, params().scoring, INLINE))
    spread = np.ptp(ours)
    assert spread > 0.1
    theirs = rewards_of_texts(model.location, validation)
    np.testing.assert_allclose(ours, theirs, atol=1e-4 * spread, rtol=1e-6)


@pytest.mark.parametrize("width", [None, 4])
def test_scorer_gives_its_rewards(train, start, validation, width):
    model = train(start, head_width=width)
    ours = columns(score_pairs(model, validation, params().scoring, INLINE))
    job = ScoreJob(model=model, pairs=validation, max_length=256, score_tokens=512)
    theirs = columns(run(job)["scores"])
    # Rounding is a share of the spread of the rewards, and differs by processor: an
    # untrained encoder's features hardly vary, and the head magnifies what they do.
    spread = np.ptp(ours)
    assert spread > 0
    np.testing.assert_allclose(ours, theirs, atol=1e-3 * spread, rtol=1e-6)


def test_linear_head_comes_close_to_a_logistic_regression(train, sft_model, labeled):
    long = {"epochs": 800, "batch_size": 32, "scheduler": "linear"}
    model = train(sft_model, learning_rate=0.1, weight_decay=0.0, **long)
    rows, table = features_of(model, labeled), read_table(labeled)
    both = rows.take(rows.find(table["pair_id"].to_pylist()), flipped(table))
    difference = both[:, 0] - both[:, 1]
    scaled = (difference / difference.std(0)).astype(np.float64)

    def loss(weight):
        return np.logaddexp(0, -scaled @ weight).mean()

    known = minimize(loss, np.zeros(scaled.shape[1]), method="BFGS")
    mine = difference @ load_head(model.location).weight[0].detach().numpy()
    theirs = scaled @ known.x
    # 32 pairs in 16 dimensions of very unlike directions: nearly there in 800 steps.
    assert np.corrcoef(mine, theirs)[0, 1] > 0.8
    assert known.fun < np.logaddexp(0, -mine).mean() < known.fun + 0.1


def features_of(model, table):
    backbone = model.backbone
    job = FeaturesJob(model=backbone, pairs=table, max_length=256, score_tokens=16384)
    return FeatureRows((run(job)["features"],))


def test_features_are_computed_once(train, sft_model, labeled, validation):
    first = train(sft_model)
    store = sft_model.location.parents[2]
    stages = {path.parent.name for path in store.glob("*/*")}
    assert {"backbone", "features", "reward_model"} <= stages
    assert train(sft_model) == first
    second = train(sft_model, seed=4)
    names = {name for name in sft_model.location.parents[2].glob("features/*")}
    assert len(names) == 2  # of the labelled and of the validation pairs, no more
    assert second != first


@pytest.fixture
def features(sft_model):
    backbone = run(BackboneJob(start=sft_model))["model"]

    def call(pairs):
        job = FeaturesJob(
            model=backbone,
            pairs=pairs,
            max_length=256,
            score_tokens=512,
        )
        return run(job)["features"]

    return call


def test_features_do_not_depend_on_what_the_store_holds(
    table, features, train_rows, monkeypatch
):
    """Some pairs are computed, some copied, in whatever order: the same bytes."""
    wanted = table("wanted", [train_rows[i] for i in (3, 40, 1, 17, 30)], LABELED)
    cold = features(wanted)
    for old in cold.location.parents[1].iterdir():
        shutil.rmtree(old)
    swapped = [
        row | {"chosen": row["rejected"], "rejected": row["chosen"]}
        for row in reversed(train_rows[16:44])
    ]
    features(table("others", swapped, LABELED))
    computed = count_calls(monkeypatch, Scorer, "outputs")
    warm = features(wanted)
    assert computed == [2]  # the pairs that only ``wanted`` has
    assert warm == cold
    assert read_table(warm)["pair_id"] == read_table(wanted)["pair_id"]


def count_calls(monkeypatch, kind, name):
    """Count the calls of a method; the count is the list's only item."""
    calls, method = [0], getattr(kind, name)

    def counted(*args, **kwargs):
        calls[0] += 1
        return method(*args, **kwargs)

    monkeypatch.setattr(kind, name, counted)
    return calls


def test_features_of_another_model_are_not_copied(
    sft_model, features, labeled, monkeypatch
):
    """M8: a table counts only where the same backbone has made it."""
    first = features(labeled)
    model, tokenizer = load_reward_model(sft_model.location, seed=1)
    torch.nn.init.normal_(model.get_input_embeddings().weight, std=1.0)
    other = project_root() / "data" / "store" / "other"
    model.save_pretrained(other)
    tokenizer.save_pretrained(other)
    changed = {"path": "data/store/other", "fingerprint": "other"}
    backbone = run(BackboneJob(start=sft_model.model_copy(update=changed)))["model"]
    computed = count_calls(monkeypatch, Scorer, "outputs")
    job = FeaturesJob(model=backbone, pairs=labeled, max_length=256, score_tokens=512)
    second = run(job)["features"]
    assert computed == [labeled.rows]
    one, two = (read_table(each)["first"].to_pylist() for each in (first, second))
    assert not np.allclose(one, two)


def test_features_of_swapped_responses_are_swapped(features, table, train_rows):
    swapped = [
        row | {"chosen": row["rejected"], "rejected": row["chosen"]}
        for row in train_rows[:8]
    ]
    straight = table("straight", train_rows[:8], LABELED)
    mirrored = table("mirrored", swapped, LABELED)
    one, two = (FeatureRows((features(each),)) for each in (straight, mirrored))
    ids = [row["pair_id"] for row in swapped]
    rows = one.take(one.find(ids), flipped(read_table(straight)))
    again = two.take(two.find(ids), flipped(read_table(mirrored)))
    assert np.array_equal(rows, again[:, ::-1]) and not np.array_equal(rows, again)


def test_features_that_are_damaged_are_not_copied(
    table, features, train_rows, monkeypatch
):
    first = features(table("first", train_rows[:4], LABELED)).location
    half = first.stat().st_size // 2
    first.write_bytes(first.read_bytes()[:half] + bytes(half))
    computed = count_calls(monkeypatch, Scorer, "outputs")
    features(table("more", train_rows[:6], LABELED))
    assert computed == [6]


def test_a_training_that_diverges_stores_nothing(train, sft_model):
    with pytest.raises(ModelError, match="its loss is (nan|inf)|infinite or NaN"):
        train(sft_model, learning_rate=1e37)
    assert not [*finished("reward_model")]


def test_equal_models_are_one_backbone(sft_model, project):
    other = project / "data" / "store" / "copy"
    shutil.copytree(sft_model.location, other)
    copy = sft_model.model_copy(
        update={"path": "data/store/copy", "fingerprint": "other"}
    )
    one, two = (run(BackboneJob(start=each))["model"] for each in (sft_model, copy))
    assert one.fingerprint == two.fingerprint


def test_a_head_goes_on_from_a_head(train, sft_model):
    first = train(sft_model)
    again = train(first, epochs=0.25, learning_rate=1e-9)
    assert again.metrics["steps"] == 1
    one, two = (load_head(each.location).weight for each in (first, again))
    assert one.abs().max() > 0
    torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-4)
    assert (first.location / "backbone.safetensors").samefile(
        again.location / "backbone.safetensors"
    )
    assert (again.location / HEAD).stat().st_size < 1000
    backbone = load_head(again.backbone.location)
    assert not backbone.weight.any()


def test_other_loaders_miss_a_deep_head(train, sft_model):
    model = train(sft_model, head_width=4)
    _, report = AutoModelForSequenceClassification.from_pretrained(
        model.location, output_loading_info=True
    )
    assert {name.split(".")[0] for name in report["missing_keys"]} == {"score"}


def test_weights_and_soft_labels_count(table, train, sft_model, train_rows, labeled):
    def extra(name, values):
        schema = PAIRS.append(pa.field(name, pa.float32()))
        rows = [
            row | {name: value}
            for row, value in zip(train_rows[:32], values, strict=True)
        ]
        return table(name, rows, schema)

    plain = load_head(train(sft_model).location).weight
    nothing = train(sft_model, pairs=extra("weight", [0.0] * 32), weight_decay=0.0)
    assert not load_head(nothing.location).weight.any()
    opposite = train(sft_model, pairs=extra("soft_label", [0.0] * 32))
    torch.testing.assert_close(
        load_head(opposite.location).weight, -plain, atol=1e-5, rtol=1e-4
    )


def test_margins_of_the_data_count_where_they_are_asked_for(
    table, train, sft_model, train_rows
):
    rows = [row | {"soft_label": 1.0, "margin": 3.0} for row in train_rows[:32]]
    unsaid = [row | {"margin": float("nan")} for row in rows]
    said = table("said", rows, LABELED)

    def head(pairs, **changes):
        model = train(sft_model, pairs=pairs, weight_decay=0.0, **changes)
        return load_head(model.location).weight

    plain = head(said)
    asked = head(said, use_margins=True)
    assert asked.norm() > 1.2 * plain.norm()
    torch.testing.assert_close(head(table("unsaid", unsaid, LABELED)), plain)
    torch.testing.assert_close(
        head(table("unsaid", unsaid, LABELED), use_margins=True), plain
    )


def test_voters_disagreeing_is_a_tie():
    from ser_kedro.self_evolution.vote import vote

    # Of the second pair the voters prefer different responses, and their mean is none.
    rewards = np.array([[[1.0, 1.0], [0.0, 0.0]], [[3.0, 0.0], [0.0, 5.0]]])
    assert vote(rewards).tolist() == [[2.0, 1.5], [0.0, 1.5]]


def test_votes_are_calibrated(sft_model, train, labeled, validation, unlabeled):
    model = train(sft_model, voters=3, dropout=0.3)
    members = voters_of(model)
    assert len({voter.fingerprint for voter in members}) == 3
    data = EvolutionData(
        labeled_pairs=labeled,
        validation_pairs=validation,
        unlabeled_pairs=unlabeled,
        sft_model=sft_model,
    )
    loop = EvolutionLoop(data, EvolutionParams(), params(), seed=0, max_loops=1)
    scores = loop.self_label(loop.begin(model))
    rewards = []
    for voter in members:
        known = Calibration.of(voter)
        raw = columns(score_pairs(voter, unlabeled, params().scoring, INLINE))
        rewards.append((raw - known.offset) / known.temperature)
    same = np.ptp(np.sign([r[:, 0] - r[:, 1] for r in rewards]), axis=0) == 0
    joined = columns(scores)
    np.testing.assert_allclose(joined[same], np.mean(rewards, 0)[same], rtol=1e-4)
    assert (joined[~same, 0] == joined[~same, 1]).all()


class TestTrainable:
    def test_follows_lora_where_it_is_not_given(self):
        given = params().model_dump()
        del given["trainable"]
        assert RewardParams(**given).trainable == "full"
        assert RewardParams(**given | {"lora": {"r": 2, "alpha": 4}}).trainable == (
            "lora"
        )

    @pytest.mark.parametrize("trainable", ["full", "head"])
    def test_alone_decides(self, trainable):
        with_sizes = params(trainable=trainable, lora={"r": 2, "alpha": 4})
        assert with_sizes == params(trainable=trainable)

    def test_lora_needs_sizes(self):
        with pytest.raises(ValueError, match="needs lora, the sizes"):
            params(trainable="lora")
