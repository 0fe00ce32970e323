"""What fine-tuning starts from: models as people bring them."""

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from ser_kedro.errors import ModelError
from ser_kedro.launch.executor import run
from ser_kedro.launch.params import INLINE
from ser_kedro.models import source
from ser_kedro.models.calibration import Calibration, validation_rewards
from ser_kedro.models.encode import Encoder
from ser_kedro.models.params import LoraParams, ModelParams, Scoring
from ser_kedro.models.scorer import Scorer
from ser_kedro.pipelines.seed_rm.nodes import train_seed
from ser_kedro.preferences.schema import LABELED
from ser_kedro.self_evolution.params import EvolutionParams
from ser_kedro.store.references import TableRef
from ser_kedro.store.tables import read_table
from ser_kedro.training.params import RewardParams, SftParams
from ser_kedro.training.reward_model import train_reward_model
from ser_kedro.training.sft_job import SftJob
from tests.models import brought, gguf_model, templates

pytestmark = pytest.mark.slow

LOOPS = EvolutionParams()
# Which nothing reads.
POOL = TableRef(path="pool", fingerprint="pool", rows=0)

TRAINING = {
    "learning_rate": 1e-2,
    "epochs": 1,
    "batch_size": 8,
    "scheduler": "constant",
    "max_length": 256,
}
# Labels that nobody doubts.
SURE = {"soft_label": 1.0, "margin": float("nan")}
REWARD = RewardParams(**{**TRAINING, "max_length": 512}, precision="fp32")


@pytest.fixture
def labeled(table, train_rows):
    return table("labeled", [row | SURE for row in train_rows[:32]], LABELED)


@pytest.fixture
def validation(table, test_rows):
    return table("validation", [row | SURE for row in test_rows[:12]], LABELED)


@pytest.fixture
def tune(table, train_rows):
    """Fine-tune a folder on eight pairs."""
    eight = table("sft_pairs", train_rows[:8], LABELED)

    def make(folder, max_length=256, sft=(), pairs=eight, seed=0, **changes):
        job = SftJob(
            model=ModelParams(name=str(folder), **changes),
            pairs=pairs,
            params=SftParams(**{**TRAINING, "max_length": max_length, **dict(sft)}),
            seed=seed,
        )
        return run(job)["model"]

    return make


def weights(folder, kind):
    model = kind.from_pretrained(folder)
    return {name: value for name, value in model.state_dict().items()}


def same(one, two):
    assert one.keys() == two.keys()
    return all(torch.equal(one[name], two[name]) for name in one)


class TestTemplates:
    def test_a_file_is_kept_with_the_model(self, tune, tmp_path):
        file = tmp_path / "chat.jinja"
        file.write_text(templates.GEMMA)
        folder = brought.llama(tmp_path / "m", templates.MISTRAL_1)
        model = tune(folder, chat_template=str(file))
        assert model.load_tokenizer().chat_template == templates.GEMMA

    def test_the_date_is_kept_with_the_model(self, tune, tmp_path):
        folder = brought.llama(tmp_path / "m", templates.LLAMA_32)
        model = tune(folder, template_date="2020-01-02")
        prompt = [{"role": "user", "content": "one"}]
        text = model.load_tokenizer().apply_chat_template(prompt, tokenize=False)
        assert "Today Date: 02 Jan 2020" in text

    def test_a_system_turn_that_the_template_refuses_is_learnt_from(
        self, table, train_rows, tmp_path
    ):
        system = {"role": "system", "content": "be brief"}
        rows = [r | {"prompt": [system, *r["prompt"]]} for r in train_rows[:8]]
        folder = brought.llama(tmp_path / "m", templates.GEMMA)
        job = SftJob(
            model=ModelParams(name=str(folder)),
            pairs=table("system", rows, LABELED),
            params=SftParams(**TRAINING),
            seed=0,
        )
        assert run(job)["model"].metrics["trained_pairs"] == 8


def test_a_gguf_file_is_tuned_like_the_folder_that_it_was_made_of(tune, tmp_path):
    """And saved as a folder that plain transformers loads."""
    made, tokenizer = gguf_model.model_of()
    file, folder = tmp_path / "tiny.gguf", tmp_path / "tiny"
    gguf_model.write(file, made, tokenizer, templates.GEMMA)
    tokenizer.chat_template = templates.GEMMA
    brought.save(folder, made, tokenizer)
    one, two = tune(file), tune(folder)
    assert (one.kind, one.base_model) == ("language_model", str(file))
    assert one.metrics["trained_pairs"] == two.metrics["trained_pairs"] == 8
    found, wanted, before = (
        weights(place, AutoModelForCausalLM)
        for place in (one.location, two.location, folder)
    )
    for name, value in wanted.items():
        assert torch.allclose(found[name], value, atol=1e-5), name
        assert not torch.equal(found[name], before[name]), name
    assert "quantization_config" not in (one.location / "config.json").read_text()
    assert one.load_tokenizer().chat_template == templates.GEMMA


class TestAnInstructModel:
    """Its template closes an answer by the token at which it stops."""

    @pytest.fixture
    def instruct(self, tmp_path):
        return brought.llama(tmp_path / "instruct", templates.MISTRAL_1)

    def test_is_passed_on(self, tune, instruct, caplog):
        caplog.set_level("INFO", "ser_kedro")
        model = tune(instruct)
        assert (model.kind, model.metrics) == ("language_model", {})
        kind = AutoModelForCausalLM
        assert same(weights(instruct, kind), weights(model.location, kind))
        assert "SFT is skipped: an instruct model, which closes its" in caplog.text

    def test_is_one_model_for_every_split(self, tune, instruct, table, train_rows):
        """So that nothing is read by it twice; trained, it is another one each time."""
        other = table("other", train_rows[8:16], LABELED)
        one, two = tune(instruct), tune(instruct, pairs=other, seed=1)
        assert one.fingerprint == two.fingerprint
        assert one.path != two.path
        always = {"when": "always"}
        one, two = tune(instruct, sft=always), tune(instruct, pairs=other, sft=always)
        assert one.fingerprint != two.fingerprint

    def test_says_what_has_no_effect(self, tune, instruct, caplog):
        tune(instruct, sft={"target": "chosen", "pool": "text"})
        (line,) = [r.message for r in caplog.records if r.levelname == "WARNING"]
        assert line.startswith("sft.target=chosen, sft.pool=text: no effect, since SFT")

    def test_is_trained_where_that_is_asked(self, tune, instruct):
        assert tune(instruct, sft={"when": "always"}).metrics["trained_pairs"] == 8


class TestAReadyRewardModel:
    @pytest.fixture
    def ready(self, tmp_path):
        return brought.reward_model(tmp_path / "ready", templates.GEMMA)

    def test_is_passed_on_with_its_head(self, tune, ready, caplog):
        caplog.set_level("INFO", "ser_kedro")
        model = tune(ready)
        assert (model.kind, model.metrics) == ("reward_model", {})
        kind = AutoModelForSequenceClassification
        assert same(weights(ready, kind), weights(model.location, kind))
        said = "SFT is skipped: a reward model is kept with its head"
        assert f"{ready}: {said}" in caplog.text
        assert "pairs of the SFT part that are not used: 8;" in caplog.text

    def seed(self, tune, ready, labeled, validation, params=REWARD):
        return train_seed(
            tune(ready), labeled, validation, POOL, params, LOOPS, 0, INLINE
        )

    def test_is_loop_0_as_it_is_calibrated(
        self, tune, ready, labeled, validation, rewards_of_texts
    ):
        seed = self.seed(tune, ready, labeled, validation)
        kind = AutoModelForSequenceClassification
        assert same(weights(ready, kind), weights(seed.location, kind))
        expected = rewards_of_texts(ready, validation)
        found = np.stack(validation_rewards(seed), axis=1)
        assert found == pytest.approx(expected, abs=1e-5)
        assert Calibration.of(seed).offset == pytest.approx(expected.mean(), abs=1e-5)
        right = np.mean(expected[:, 0] > expected[:, 1])
        assert seed.metrics["validation_accuracy"] == pytest.approx(right)
        assert "steps" not in seed.metrics

    @pytest.mark.parametrize("trainable", ["full", "lora", "head"])
    def test_is_what_the_loops_go_on_from(
        self, tune, ready, labeled, validation, trainable
    ):
        lora = LoraParams(r=2, alpha=4) if trainable == "lora" else None
        # So slow that what is trained stays what it was.
        params = {**TRAINING, "learning_rate": 1e-12, "precision": "fp32"}
        params = RewardParams(**params, trainable=trainable, lora=lora)
        start = tune(ready)
        seed = train_seed(start, labeled, validation, POOL, params, LOOPS, 0, INLINE)
        for begin in (start, seed):
            model = train_reward_model(
                start=begin,
                pairs=(labeled,),
                validation=validation,
                params=params,
                seed=1,
                launcher=INLINE,
            )
            assert margins(model) == pytest.approx(margins(seed), abs=1e-4)

    def test_an_encoder_with_one_label_is_one_too(
        self, make_bert, tune, labeled, validation, rewards_of_texts
    ):
        bert = make_bert()
        torch.manual_seed(5)
        model = AutoModelForSequenceClassification.from_pretrained(bert, num_labels=1)
        model.save_pretrained(bert)
        seed = self.seed(tune, bert, labeled, validation)
        found = np.stack(validation_rewards(seed), axis=1)
        assert found == pytest.approx(rewards_of_texts(bert, validation), abs=1e-4)

    def test_two_labels_are_none(self, make_bert, tune, caplog):
        bert = make_bert()
        model = AutoModelForSequenceClassification.from_pretrained(bert, num_labels=2)
        model.save_pretrained(bert)
        assert tune(bert).kind == "encoder"
        assert "a classifier with 2 labels" in caplog.text
        assert "its head is left out" in caplog.text


def margins(model):
    chosen, rejected = validation_rewards(model)
    return chosen - rejected


def test_padding_above_the_embedding_gets_a_row(tune, tmp_path):
    folder = brought.llama(tmp_path / "m", pad="<|new pad|>")
    model = tune(folder)
    config = model.load_model().config
    assert config.vocab_size == len(model.load_tokenizer())
    assert config.pad_token_id == config.vocab_size - 1


def test_other_tokens_above_it_are_one_line(tune, tmp_path):
    folder = brought.llama(tmp_path / "m", more=["<|tool|>"])
    with pytest.raises(ModelError, match=r"does not know \('<\|tool\|>'"):
        tune(folder)


class TestAnAdapter:
    """Its weights are drawn, so that merging it changes something."""

    def adapter(self, folder, base, task, kind, **options):
        torch.manual_seed(1)
        model = kind.from_pretrained(base, **options)
        config = LoraConfig(task_type=task, r=2, init_lora_weights=False)
        model = get_peft_model(model, config).eval()
        model.save_pretrained(folder)
        return model

    def test_of_a_language_model_is_merged_into_its_base(self, tune, tmp_path):
        base = brought.llama(tmp_path / "base", templates.GEMMA)
        kind, place = AutoModelForCausalLM, tmp_path / "adapter"
        model = self.adapter(place, base, "CAUSAL_LM", kind)
        merged = tmp_path / "merged"
        model.merge_and_unload().save_pretrained(merged)
        brought.tokenizer_of(templates.GEMMA).save_pretrained(merged)
        one, two = (tune(folder) for folder in (place, merged))
        assert one.kind == "language_model"
        one_weights, two_weights = (weights(m.location, kind) for m in (one, two))
        assert same(one_weights, two_weights)
        assert one.load_tokenizer().chat_template == templates.GEMMA

    def test_has_its_own_tokenizer_where_it_brings_one(self, tune, tmp_path):
        base = brought.llama(tmp_path / "base", templates.GEMMA)
        place = tmp_path / "adapter"
        self.adapter(place, base, "CAUSAL_LM", AutoModelForCausalLM)
        brought.tokenizer_of(templates.MISTRAL_1).save_pretrained(place)
        assert tune(place).load_tokenizer().chat_template == templates.MISTRAL_1

    def test_is_refused_under_zero_3(self, tune, tmp_path, monkeypatch):
        base = brought.llama(tmp_path / "base")
        place = tmp_path / "adapter"
        self.adapter(place, base, "CAUSAL_LM", AutoModelForCausalLM)
        monkeypatch.setattr(source, "is_zero3_enabled", lambda: True)
        with pytest.raises(ModelError, match="cannot be merged under ZeRO 3"):
            tune(place)

    def test_of_a_reward_model_is_a_ready_one(
        self, tune, tmp_path, labeled, validation
    ):
        base = brought.llama(tmp_path / "base")
        kind, place = AutoModelForSequenceClassification, tmp_path / "adapter"
        model = self.adapter(place, base, "SEQ_CLS", kind, num_labels=1)
        start = tune(place)
        assert start.kind == "reward_model"
        encoder = Encoder(brought.tokenizer_of(), 256)
        pair = encoder.pairs([[{"role": "user", "content": "a"}]], ["yes"], ["no"])[0]
        ids = torch.tensor([pair.prompt + pair.a])
        expected = model(input_ids=ids).logits.item()
        scorer = Scorer.load(start.location, Scoring(max_length=256, score_tokens=512))
        assert scorer.rewards([pair])[0, 0] == pytest.approx(expected, abs=1e-5)

    def test_that_does_not_fit_is_one_line(self, tune, tmp_path):
        base = brought.llama(tmp_path / "base")
        place = tmp_path / "adapter"
        self.adapter(place, base, "CAUSAL_LM", AutoModelForCausalLM)
        brought.llama(base, hidden_size=32)
        with pytest.raises(ModelError, match="the adapter does not fit"):
            tune(place)


def test_roberta_reads_its_last_position(project, tune, table, validation, train_rows):
    folder = brought.roberta(project / "roberta", positions=66)
    long = {"chosen": "yes " * 40, "rejected": "no " * 40, **SURE}
    rows = [row | long for row in train_rows[:8]]
    model = train_reward_model(
        start=tune(folder),
        pairs=(table("long", rows, LABELED),),
        validation=validation,
        params=RewardParams(**{**TRAINING, "max_length": 64}),
        seed=0,
        launcher=INLINE,
    )
    assert model.metrics["overlong_pairs"] == 8
    assert read_table(validation).num_rows == len(margins(model))
    with pytest.raises(ModelError, match="reads 64 tokens at most"):
        train_reward_model(
            start=tune(folder),
            pairs=(validation,),
            validation=validation,
            params=RewardParams(**{**TRAINING, "max_length": 65}),
            seed=0,
            launcher=INLINE,
        )
