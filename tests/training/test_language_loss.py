"""The loss of a language model beside the pairwise one."""

import math

import numpy as np
import pytest
import torch
from datasets import Dataset
from pydantic import ValidationError
from transformers import AutoModelForCausalLM, Gemma2Config, Gemma2ForCausalLM

from ser_kedro.errors import ModelError
from ser_kedro.launch.executor import run
from ser_kedro.launch.params import INLINE
from ser_kedro.models import pack
from ser_kedro.models.calibration import validation_rewards
from ser_kedro.models.pack import Packing, Row, answer_tokens
from ser_kedro.models.params import LoraParams
from ser_kedro.models.reward_model import load_reward_model
from ser_kedro.preferences.schema import UNLABELED
from ser_kedro.store.layout import project_root
from ser_kedro.store.references import ModelRef
from ser_kedro.store.tables import read_table
from ser_kedro.training.batches import PairSteps
from ser_kedro.training.language_loss import LanguageLoss, language_loss
from ser_kedro.training.params import RewardParams
from ser_kedro.training.reward_job import TrainRewardJob
from ser_kedro.training.reward_model import train_reward_model
from ser_kedro.training.reward_trainer import SerRewardTrainer

pytestmark = pytest.mark.slow

PACKED, PLAIN = Packing(True, "sdpa"), Packing(False, "for the test")
PAIRS = [
    ([3, 5, 7, 9], [11, 13, 2], [4, 6, 8, 10, 2]),
    ([12, 14], [3, 2], [15, 16, 2]),
    ([], [5, 6, 2], [7, 2]),
]


def params(**changes):
    return RewardParams(
        **{
            "learning_rate": 1e-2,
            "epochs": 1,
            "batch_size": 8,
            "scheduler": "linear",
            "max_length": 256,
            **changes,
        }
    )


@pytest.fixture
def job(sft_model, labeled, validation):
    def describe(start=None, pool=None, **changes):
        return TrainRewardJob(
            start=start or sft_model,
            pairs=(labeled,),
            validation=validation,
            pool=pool,
            params=params(**changes),
            seed=3,
        )

    return describe


@pytest.fixture
def model(sft_model):
    return load_reward_model(sft_model.location, seed=0)[0]


def tie(reference, tied):
    """Give a language model's folder a head of its own, or its embeddings."""
    torch.manual_seed(1)
    old = AutoModelForCausalLM.from_pretrained(reference.location)
    new = type(old)(
        type(old.config)(**{**old.config.to_dict(), "tie_word_embeddings": tied})
    )
    new.model.load_state_dict(old.model.state_dict())
    new.save_pretrained(reference.location)


def batch_of(packing, pairs=PAIRS):
    names = ("prompt_ids", "chosen_ids", "rejected_ids")
    said = {"weight": 1.0, "soft_label": 1.0, "margin": 0.0}
    rows = Dataset.from_list([{**dict(zip(names, pair)), **said} for pair in pairs])
    steps = PairSteps(
        rows,
        packing,
        batch_size=len(pairs),
        epochs=1,
        max_tokens_per_microbatch=10**6,
        pad_token_id=0,
        seed=0,
        answers=True,
    )
    ((batch,),) = list(steps[i] for i in range(len(steps)))
    return batch


def loss_of(model, batch, weight, head=None):
    """What the trainer makes of a batch, without a trainer."""
    trainer = SerRewardTrainer.__new__(SerRewardTrainer)
    trainer.pair_loss, trainer.hinge_margin = "logistic", 1.0
    trainer.language = LanguageLoss(model, head, weight) if weight else None
    return trainer.compute_loss(model, batch)


def mean_nll(language_model, prompt, response):
    """The mean over a response's tokens, token by token, from the definition."""
    ids = torch.tensor([prompt + response])
    logs = language_model(ids).logits[0].log_softmax(-1)
    found = [
        -logs[place - 1, ids[0, place]].item()
        for place in range(len(prompt), ids.shape[1])
        if place
    ]
    return sum(found) / len(found)


@pytest.mark.parametrize("packed", [True, False])
def test_tokens_are_predicted_where_their_predecessor_stands(packed):
    rows = [Row([5, 6, 7], [[8, 9], [10, 11, 12]]), Row([], [[4], [3, 2]])]
    batch = pack.collate(rows, 0, packed=packed)

    found = answer_tokens(rows, batch["input_ids"].shape[1], packed=packed)

    before = batch["input_ids"].flatten()[found["before"]]
    assert before.tolist() == [7, 8, 7, 10, 11, 3]
    assert found["token"].tolist() == [8, 9, 10, 11, 12, 2]
    shares = [1 / 4, 1 / 4, 1 / 6, 1 / 6, 1 / 6, 1 / 2]
    assert found["share"].tolist() == pytest.approx(shares)


def test_the_loss_by_hand():
    """One response token, a vocabulary of two, states that are all (1, 0)."""

    class Base(torch.nn.Module):
        def forward(self):
            states = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
            return type("Output", (), {"last_hidden_state": states})

    model = type("Model", (), {"base_model": Base(), "device": "cpu"})
    head = torch.nn.Linear(2, 2, bias=False)
    head.weight.data = torch.tensor([[math.log(3.0), 9.0], [0.0, 9.0]])
    loss = LanguageLoss(model, head, 0.25)
    answers = answer_tokens([Row([0], [[1]])], 2, packed=False)

    with loss.reading():
        model.base_model()
    found = loss.added_to(torch.tensor(2.0), answers)

    # softmax(log 3, 0) = (3/4, 1/4)
    assert found.item() == pytest.approx(0.75 * 2.0 + 0.25 * math.log(4))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("packing", [PACKED, PLAIN])
def test_it_is_the_start_models_mean_negative_log_likelihood(sft_model, tied, packing):
    tie(sft_model, tied)
    model, _ = load_reward_model(sft_model.location, seed=0)
    pack.enable(model)
    language = language_loss(model, sft_model, 0.5)
    batch = batch_of(packing)
    answers = batch.pop("answers")
    inputs = {
        k: v
        for k, v in batch.items()
        if k not in ("scale", "weight", "soft_label", "margin")
    }

    with language.reading():
        model(**inputs, use_cache=False)
    found = 2 * language.added_to(torch.tensor(0.0), answers).item()

    start = AutoModelForCausalLM.from_pretrained(sft_model.location).eval()
    expected = [
        (mean_nll(start, prompt, one) + mean_nll(start, prompt, other)) / 2
        for prompt, one, other in PAIRS
    ]
    assert (language.head is None) is tied
    assert found == pytest.approx(sum(expected), rel=1e-5)


def test_packed_and_plain_rows_give_one_loss_and_one_gradient(model):
    pack.enable(model)
    found = []
    for packing in (PACKED, PLAIN):
        loss = loss_of(model, batch_of(packing), 0.3)
        loss.backward()
        gradient = [p.grad.clone() for p in model.parameters()]
        model.zero_grad()
        found.append((loss.detach(), gradient))

    (one, of_one), (other, of_other) = found
    torch.testing.assert_close(one, other, atol=1e-5, rtol=0)
    for left, right in zip(of_one, of_other, strict=True):
        torch.testing.assert_close(left, right, atol=1e-5, rtol=0)


def test_weight_zero_is_the_pairwise_loss_to_the_last_bit(model):
    batch = batch_of(PLAIN)
    assert "answers" in batch
    rewards = model(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
    ).logits.view(-1, 2)
    pairwise = -torch.nn.functional.logsigmoid(rewards[:, 0] - rewards[:, 1])

    without = loss_of(model, batch, 0.0)

    assert torch.equal(without, pairwise.sum() * batch["scale"])
    assert not torch.equal(without, loss_of(model, batch, 0.01))


def test_without_a_weight_no_token_is_prepared(job, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError

    monkeypatch.setattr(pack, "answer_tokens", refuse)

    assert run(job())["model"].metrics["steps"] == 4


def test_it_does_not_say_which_response_is_preferred(model):
    """Nothing of the labels is in it: a pair counts the same the other way round."""
    swapped = [(prompt, other, one) for prompt, one, other in PAIRS]
    losses = []
    for pairs in (PAIRS, swapped):
        batch = batch_of(PLAIN, pairs)
        batch["weight"] = torch.zeros(len(pairs))
        losses.append(loss_of(model, batch, 0.3))

    torch.testing.assert_close(*losses)
    assert losses[0] > 0


def test_the_gradient_reaches_tied_embeddings_of_tokens_that_no_row_holds(sft_model):
    tie(sft_model, True)
    model, _ = load_reward_model(sft_model.location, seed=0)
    absent = 200
    embeddings = model.get_input_embeddings().weight

    loss_of(model, batch_of(PLAIN), 0.3).backward()

    assert embeddings.grad[absent].abs().sum() > 0  # as a token that might be written
    assert embeddings.grad[11].abs().sum() > 0


def test_a_head_of_its_own_stays_as_it_was(sft_model):
    tie(sft_model, False)
    model, _ = load_reward_model(sft_model.location, seed=0)
    head = language_loss(model, sft_model, 0.3).head
    before = head.weight.clone()

    loss_of(model, batch_of(PLAIN), 0.3, head).backward()

    assert head.weight.grad is None
    assert torch.equal(head.weight, before)
    assert model.get_input_embeddings().weight.grad[11].abs().sum() > 0


@pytest.mark.parametrize("tied", [True, False])
def test_a_trained_model_still_writes_what_it_was_shown(job, sft_model, tied):
    """Its states times the start's output embeddings; the folder is as any other."""
    tie(sft_model, tied)

    def nll(trained):
        model, _ = load_reward_model(trained.location, 0)
        head = language_loss(model, sft_model, 0.5).head
        batch = batch_of(PLAIN, [([3, 5, 7, 9], [11, 13, 17], [19, 23])])
        batch["weight"] = torch.zeros(1)
        return loss_of(model, batch, 0.999, head).item()

    without, much = (run(job(lm_weight=w, epochs=4))["model"] for w in (0.0, 0.9))

    assert much.metrics["reload_gap"] < 1e-5
    assert {p.name for p in much.location.iterdir()} == {
        p.name for p in without.location.iterdir()
    }
    assert much.metrics["last_loss"] < much.metrics["first_loss"]
    assert nll(much) < nll(without)


@pytest.mark.parametrize(
    "changes",
    [
        {"lora": LoraParams(r=2, alpha=8)},
        {"lora": LoraParams(r=2, alpha=8, last_layers=1)},
        {"gradient_checkpointing": True},
        {"precision": "bf16"},
        {"max_tokens_per_microbatch": 600},
        {"loss": "hinge", "dropout": 0.1},
    ],
)
def test_it_goes_with_the_other_options(job, changes):
    with_it, without = (run(job(lm_weight=w, **changes))["model"] for w in (0.5, 0.0))

    assert with_it.metrics["reload_gap"] < 1e-3
    assert with_it.metrics["first_loss"] > without.metrics["first_loss"]  # of nats


def test_gradients_accumulate_to_the_same_loss(job):
    whole, parts = (
        run(job(lm_weight=0.5, max_tokens_per_microbatch=n))["model"].metrics
        for n in (8192, 600)
    )

    assert parts["first_loss"] == pytest.approx(whole["first_loss"], rel=1e-4)


def test_a_rerun_resumes_to_the_same_weights(job, tmp_path, break_off):
    described = job(lm_weight=0.3, epochs=2, save_steps=3)
    described.work(tmp_path)
    expected = load_reward_model(tmp_path / "model", 0)[0].state_dict()

    steps = break_off(5)
    with pytest.raises(KeyboardInterrupt):
        run(described)
    found = load_reward_model(run(described)["model"].location, 0)[0].state_dict()

    assert steps == [1, 2, 3, 4, 5, 4, 5, 6, 7, 8]
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def refused(described, *words):
    with pytest.raises(ModelError) as error:
        run(described)
    text = str(error.value)
    assert all(word in text for word in words), text
    assert "\n" not in text


def test_a_reward_model_has_no_head_to_write_with(job):
    first = run(job())["model"]

    refused(job(start=first, lm_weight=0.01), "reward.lm_weight=0.01", "reward models")


def test_an_encoder_has_no_head_to_write_with(job, make_bert):
    start = ModelRef(
        kind="encoder",
        path=str(make_bert().relative_to(project_root())),
        fingerprint="bert",
    )

    refused(job(start=start, lm_weight=0.01), "reward.lm_weight=0.01", "encoders")


def test_logits_that_are_capped_are_refused(model, sft_model):
    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=400,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        final_logit_softcapping=0.1,
    )
    Gemma2ForCausalLM(config).save_pretrained(sft_model.location)

    with pytest.raises(ModelError, match="logits of this language model are not its"):
        language_loss(model, sft_model, 0.01)


@pytest.mark.parametrize("weight", [-0.1, 1.0, 2.0])
def test_the_weight_is_a_share(weight):
    with pytest.raises(ValidationError, match="lm_weight"):
        params(lm_weight=weight)


def test_a_frozen_model_is_refused():
    with pytest.raises(ValidationError) as error:
        params(lm_weight=0.01, trainable="head")

    (one,) = error.value.errors()
    assert "lm_weight=0.01 trains what lies below the head" in one["msg"]
    assert "\n" not in one["msg"]
    assert params(trainable="head").lm_weight == 0


def test_a_pool_is_read_as_pairs_that_only_the_language_loss_counts(
    job, unlabeled, monkeypatch
):
    seen = []
    original = SerRewardTrainer.compute_loss

    def watch(self, model, inputs, *rest, **more):
        seen.extend(inputs["weight"].tolist())
        return original(self, model, inputs, *rest, **more)

    monkeypatch.setattr(SerRewardTrainer, "compute_loss", watch)
    monkeypatch.setattr("ser_kedro.training.reward.check_packing", lambda _: None)

    metrics = run(
        job(
            pool=unlabeled, lm_weight=0.1, lm_pool="text", max_tokens_per_microbatch=600
        )
    )["model"].metrics

    # 32 pairs with a label weigh (32 + 48) / 32, so that their mean is as without.
    assert sorted(seen) == [0.0] * 48 + [2.5] * 32
    assert metrics["steps"] == 10
    assert metrics["trained_pairs"] == 80


def test_the_order_of_a_pool_pair_says_nothing(job, unlabeled, table):
    rows = read_table(unlabeled).to_pylist()
    turned = table(
        "turned",
        [
            row | {"response_a": row["response_b"], "response_b": row["response_a"]}
            for row in rows
        ],
        UNLABELED,
    )
    one, other = (
        run(job(pool=pool, lm_weight=0.1, lm_pool="text", epochs=0.5))["model"]
        for pool in (unlabeled, turned)
    )

    assert one.fingerprint != other.fingerprint
    np.testing.assert_allclose(
        validation_rewards(one), validation_rewards(other), atol=1e-4
    )


def test_the_control_takes_as_many_steps_without_the_pool(job, unlabeled, table):
    fewer = table("other", read_table(unlabeled).to_pylist()[::-1], UNLABELED)
    found = [
        run(job(pool=pool, lm_weight=0.1, lm_pool="steps"))["model"]
        for pool in (unlabeled, fewer)
    ]

    assert [each.metrics["steps"] for each in found] == [10, 10]
    assert found[0].metrics["trained_pairs"] == 32
    np.testing.assert_array_equal(*map(validation_rewards, found))


@pytest.mark.parametrize("wanted", ["none", "text"])
def test_the_job_knows_the_pool_only_where_it_reads_it(
    sft_model, labeled, validation, unlabeled, monkeypatch, wanted
):
    jobs = []

    def note(job, _):
        jobs.append(job)
        return {"model": sft_model}

    monkeypatch.setattr("ser_kedro.training.reward_model.run", note)
    train_reward_model(
        start=sft_model,
        pairs=(labeled,),
        validation=validation,
        params=params(lm_weight=0.01, lm_pool=wanted),
        seed=0,
        launcher=INLINE,
        pool=unlabeled,
    )

    (one,) = jobs
    assert one.pool == (unlabeled if wanted == "text" else None)


def test_a_pool_without_the_loss_is_refused():
    with pytest.raises(
        ValidationError, match="lm_pool=text has no effect without lm_w"
    ):
        params(lm_pool="text")
