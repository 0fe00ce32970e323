"""A head alone, trained on features that its frozen model gives once."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.optimize import minimize
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertModel,
    BertTokenizer,
)

from ser_kedro.launch.params import INLINE
from ser_kedro.launch.reference import Reference
from ser_kedro.launch.run import look_only, run
from ser_kedro.launch.table import read_table
from ser_kedro.preferences.schema import LABELED
from ser_kedro.reward import steps, voters
from ser_kedro.reward.calibrate import Calibration
from ser_kedro.reward.features import (
    HEAD,
    BackboneJob,
    FeatureRows,
    FeaturesJob,
    flipped,
)
from ser_kedro.reward.head import load_head
from ser_kedro.reward.model import load_reward_model
from ser_kedro.reward.params import RewardParams
from ser_kedro.reward.score import ScoreJob


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
def encoder(project, train_rows):
    """A tiny BERT-like model, as SFT passes it on."""
    words = {w for row in train_rows for w in row["chosen"].lower().split()}
    folder = project / "data" / "store" / "bert"
    folder.mkdir(parents=True)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {w: i for i, w in enumerate([*special, *sorted(words)])}
    tokenizer = BertTokenizer(vocab=vocabulary)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=256,
    )
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Reference(
        kind="language_model",
        path="data/store/bert",
        fingerprint="bert",
        metrics={"skipped": "encoder model"},
    )


@pytest.fixture(params=["decoder", "encoder"])
def start(request):
    name = {"decoder": "sft_model", "encoder": "encoder"}[request.param]
    return request.getfixturevalue(name)


@pytest.fixture
def train(labeled, validation):
    def call(start, pairs=None, seed=3, **changes):
        return steps.train_seed(
            sft_model=start,
            labeled_pairs=(pairs or labeled,),
            validation_pairs=validation,
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
    assert model.metrics["encoding"]["kept"] == 32
    before = load_reward_model(start.location, 0)[0].base_model.state_dict()
    after = load_reward_model(model.location, 0)[0].base_model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_any_loader_gives_its_rewards(train, start, validation, rewards_of_texts):
    model = train(start, learning_rate=0.1)
    ours = columns(voters.score(model, validation, params(), INLINE))
    assert np.ptp(ours) > 0.1
    theirs = rewards_of_texts(model.location, validation)
    np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=1e-6)


@pytest.mark.parametrize("width", [None, 4])
def test_scorer_gives_its_rewards(train, start, validation, width):
    model = train(start, head_width=width)
    ours = columns(voters.score(model, validation, params(), INLINE))
    job = ScoreJob(model=model, pairs=validation, max_length=256, score_tokens=512)
    theirs = columns(run(job)["scores"])
    np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=1e-6)
    assert np.ptp(ours) > 0


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
    backbone = voters.backbone_of(model)
    job = FeaturesJob(model=backbone, pairs=table, max_length=256, score_tokens=16384)
    return FeatureRows((run(job)["features"],))


def test_features_are_computed_once(train, sft_model, labeled, validation):
    first = train(sft_model)
    with look_only() as found:
        assert train(sft_model) == first
    assert {job.stage for job in found} == {"backbone", "features", "reward_model"}
    second = train(sft_model, seed=4)
    names = {name for name in sft_model.location.parents[2].glob("features/*")}
    assert len(names) == 2  # of the labelled and of the validation pairs, no more
    assert second != first


def test_features_of_known_pairs_are_copied(table, sft_model, labeled, train_rows):
    backbone = run(BackboneJob(start=sft_model))["model"]

    def features(pairs):
        job = FeaturesJob(model=backbone, pairs=pairs, max_length=256, score_tokens=512)
        return run(job)["features"]

    first = features(labeled)
    swapped = [
        row | {"chosen": row["rejected"], "rejected": row["chosen"]}
        for row in train_rows[16:48]
    ]
    second = features(table("swapped", swapped, LABELED))
    assert (first.metrics["copied"], second.metrics["copied"]) == (0, 16)
    one, two = FeatureRows((first,)), FeatureRows((second,))
    ids = [row["pair_id"] for row in swapped[:16]]
    straight = one.take(one.find(ids), np.zeros(16, bool))
    again = two.take(two.find(ids), np.zeros(16, bool))
    assert np.array_equal(straight, again)
    assert np.array_equal(again[:, ::-1], two.take(two.find(ids), np.ones(16, bool)))


def test_equal_models_are_one_backbone(sft_model, project):
    import shutil

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
    backbone = load_head(voters.backbone_of(again).location)
    assert not backbone.weight.any()


def test_other_loaders_miss_a_deep_head(train, sft_model):
    model = train(sft_model, head_width=4)
    _, report = AutoModelForSequenceClassification.from_pretrained(
        model.location, output_loading_info=True
    )
    assert {name.split(".")[0] for name in report["missing_keys"]} == {"score"}


def test_weights_and_soft_labels_count(table, train, sft_model, train_rows, labeled):
    def extra(name, values):
        schema = LABELED.append(pa.field(name, pa.float32()))
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


def test_voters_disagreeing_is_a_tie():
    from ser_kedro.reward.vote import vote

    rewards = np.array([[[1.0, 1.0], [0.0, 0.5]], [[3.0, 0.0], [0.0, 0.5]]])
    assert vote(rewards).tolist() == [[2.0, 0.5], [0.0, 0.5]]


def test_votes_are_calibrated(sft_model, train, unlabeled):
    from ser_kedro.evolution.state import begin

    model = train(sft_model, voters=3, dropout=0.3)
    members = voters.voters_of(model)
    assert len({voter.fingerprint for voter in members}) == 3
    scores = steps.self_label(
        model=model,
        unlabeled_pairs=unlabeled,
        state=begin(model, unlabeled.rows),
        params=params(),
        launcher=INLINE,
    )
    rewards = []
    for voter in members:
        known = Calibration.load(voter.location)
        raw = columns(voters.score(voter, unlabeled, params(), INLINE))
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
