"""What is refused in a model before anything is trained, in one line each."""

import json
import shutil

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertConfig,
    CTRLConfig,
    MambaConfig,
    OpenAIGPTConfig,
    T5Config,
)

from ser_kedro.errors import ModelError
from ser_kedro.models.checks import check_model
from ser_kedro.models.params import ModelParams, ScratchParams
from ser_kedro.models.reward_model import check_window, window_of
from ser_kedro.models.source import load_config
from tests.models import brought, templates

LENGTHS = {"sft": 64, "reward": 64}


def check(folder, lengths=LENGTHS, **options):
    given = {name: options.pop(name) for name in ("chat_template",) if name in options}
    check_model(ModelParams(name=str(folder), **given), lengths, **options)


def refused(folder, *words, **options):
    with pytest.raises(ModelError) as error:
        check(folder, **options)
    text = str(error.value)
    assert all(word in text for word in words), text
    assert "\n" not in text


def taken(folder, lengths=LENGTHS, **options):
    """The model is looked at, since too long a row is refused, and found to serve."""
    check(folder, lengths, **options)
    refused(folder, "reward.max_length=9999", lengths={"reward": 9999}, **options)


@pytest.mark.parametrize("make", [brought.llama, brought.reward_model])
def test_a_model_that_serves_is_taken(make, tmp_path):
    taken(make(tmp_path))


def test_no_weight_is_read(tmp_path):
    folder = brought.llama(tmp_path)
    (folder / "model.safetensors").unlink()
    taken(folder)


@pytest.mark.parametrize("known", [True, False])
def test_code_beside_a_model_is_never_run(tmp_path, known, monkeypatch):
    """Nor asked about: of a type that transformers knows it is left aside."""
    folder = brought.llama(tmp_path)
    (folder / "own.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w')\n"
        "from transformers import LlamaConfig as OwnConfig\n"
    )
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "own.OwnConfig"}
    config["model_type"] = "llama" if known else "unheard_of"
    (folder / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("it asks"))

    if known:
        taken(folder)
    else:
        refused(folder, "brings code of its own, which is never run")
    assert not (tmp_path / "ran").exists()


def test_a_model_from_scratch_reads_what_sft_says():
    sizes = ScratchParams(
        vocab_size=64, hidden_size=8, intermediate_size=8, layers=1, heads=1
    )
    model = ModelParams(name="demo", scratch=sizes)
    check_model(model, LENGTHS)
    with pytest.raises(ModelError, match="reward.max_length=65: the model reads 64 t"):
        check_model(model, {"sft": 64, "reward": 65})


def test_adapters_on_more_layers_than_there_are(tmp_path):
    folder = brought.llama(tmp_path, num_hidden_layers=2)
    taken(folder, last_layers={"sft": 2, "reward": 1})
    said = "reward.lora.last_layers=3: the model has 2 layers"
    refused(folder, said, last_layers={"sft": 2, "reward": 3})
    encoder = brought.roberta(tmp_path / "encoder", positions=66)
    taken(encoder, {"sft": 64, "reward": 64}, last_layers={"sft": 99})  # is skipped


def test_a_hub_that_cannot_be_reached_is_left_to_the_first_stage_that_needs_it():
    assert check_model(ModelParams(name="nosuch/model"), LENGTHS) is None
    with pytest.raises(ModelError, match="model=nosuch/model: cannot be loaded"):
        load_config(ModelParams(name="nosuch/model"))


def test_a_folder_without_a_model(tmp_path):
    refused(tmp_path, f"model={tmp_path}: cannot be loaded")


class TestSft:
    """What ``sft.when`` asks of the model."""

    @pytest.mark.parametrize("make", [brought.reward_model, brought.roberta])
    def test_cannot_train_what_has_no_language_head(self, make, tmp_path):
        folder = make(tmp_path)
        check(folder, sft_when="never")
        refused(folder, "sft.when=always:", "leave sft.when at auto", sft_when="always")

    def test_cannot_pass_on_random_weights(self):
        sizes = ScratchParams(
            vocab_size=64, hidden_size=8, intermediate_size=8, layers=1, heads=1
        )
        with pytest.raises(ModelError, match="^sft.when=never: demo is a model from"):
            check_model(
                ModelParams(name="demo", scratch=sizes), LENGTHS, sft_when="never"
            )

    def test_decides_for_a_language_model(self, tmp_path):
        for when in ("auto", "always", "never"):
            taken(brought.llama(tmp_path), sft_when=when)


class TestTokenizer:
    def test_with_tokens_above_the_embedding_is_refused(self, tmp_path):
        folder = brought.llama(tmp_path, more=("<|tool|>", "<|call|>"))
        refused(folder, "2 tokens that the model does not know", "'<|tool|>'", "rows")

    def test_with_padding_alone_above_it_is_taken(self, tmp_path):
        taken(brought.llama(tmp_path, pad="<|new pad|>"))

    def test_whose_template_cannot_be_read_is_refused(self, tmp_path):
        folder = brought.llama(tmp_path)
        place = str(tmp_path / "no.jinja")
        refused(folder, f"chat_template={place}: cannot be read", chat_template=place)


class TestWindow:
    def test_of_roberta_begins_behind_the_padding(self, tmp_path):
        folder = brought.roberta(tmp_path, positions=66)
        check(folder, {"reward": 64})
        refused(folder, "reads 64 tokens at most", lengths={"reward": 65})

    def test_is_what_roberta_can_really_read(self, tmp_path):
        brought.roberta(tmp_path, positions=66)
        model = AutoModelForSequenceClassification.from_pretrained(tmp_path)
        row = torch.full((1, 64), 5)
        model(input_ids=row, attention_mask=torch.ones_like(row))
        assert window_of(model.config, 65) == 64
        with pytest.raises((IndexError, RuntimeError)):
            row = torch.full((1, 65), 5)
            model(input_ids=row, attention_mask=torch.ones_like(row))

    def test_of_bert_is_all_of_it(self):
        config = BertConfig(max_position_embeddings=66, pad_token_id=0)
        assert window_of(config, 67) == 66
        with pytest.raises(ModelError, match="reads 66 tokens"):
            check_window(config, 67, "reward")

    def test_of_a_decoder_is_all_of_it(self, tmp_path):
        folder = brought.llama(tmp_path, max_position_embeddings=64)
        check(folder, {"sft": 64, "reward": 64})
        refused(folder, "sft.max_length=65", lengths={"sft": 65})

    def test_of_a_policy_is_prompt_and_answer_together(self, tmp_path):
        folder = brought.llama(tmp_path, max_position_embeddings=64)
        said = "ppo.max_prompt_length + ppo.max_new_tokens = 65: the model reads 64"
        refused(folder, said, lengths={"sft": 64, "ppo": 65})

    def test_of_sft_does_not_bind_what_is_not_fine_tuned(self, tmp_path):
        taken(brought.roberta(tmp_path), {"sft": 999, "reward": 64})


class TestClass:
    def test_without_sequence_classification_is_refused(self, tmp_path):
        MambaConfig(architectures=["MambaForCausalLM"]).save_pretrained(tmp_path)
        refused(tmp_path, "no sequence-classification class", "type mamba")

    def test_without_a_tokenizer_is_refused(self, tmp_path):
        CTRLConfig(architectures=["CTRLLMHeadModel"]).save_pretrained(tmp_path)
        refused(tmp_path, f"model={tmp_path}: cannot be loaded")

    def test_with_padding_outside_of_its_vocabulary_is_refused(self, tmp_path):
        folder = brought.llama(tmp_path)
        file = folder / "config.json"
        file.write_text(
            json.dumps(json.loads(file.read_text()) | {"pad_token_id": 999})
        )
        refused(folder, "pad_token_id=999", "config.json")

    def test_that_no_class_can_fine_tune_is_refused(self, tmp_path):
        T5Config(architectures=["T5ForConditionalGeneration"]).save_pretrained(tmp_path)
        refused(tmp_path, "type t5 are neither language models nor encoders")

    def test_a_classifier_of_three_labels_is_refused(self, tmp_path):
        folder = brought.reward_model(tmp_path, labels=3)
        refused(folder, "a classifier with 3 labels, neither a language model")

    def test_a_policy_needs_a_language_model(self, tmp_path):
        taken(brought.llama(tmp_path / "llama"), policy=True)
        reward = brought.reward_model(tmp_path / "reward")
        refused(reward, "a reward model generates no text", policy=True)
        roberta = brought.roberta(tmp_path / "roberta")
        refused(roberta, "an encoder generates no text", policy=True)

    def test_a_policy_needs_a_model_that_keeps_what_it_read(self, tmp_path):
        folder = brought.llama(tmp_path / "gpt")
        OpenAIGPTConfig(vocab_size=10_000).save_pretrained(folder)
        taken(folder)
        refused(folder, "openai-gpt keep no keys and values", policy=True)

    def test_a_new_head_would_lose_the_ready_one(self, tmp_path):
        taken(brought.llama(tmp_path / "llama"), new_head=True)
        folder = brought.reward_model(tmp_path / "reward")
        refused(folder, "reward.head_width", "leave head_width null", new_head=True)

    def test_it_has_no_head_for_the_loss_of_a_language_model(self, tmp_path):
        taken(brought.llama(tmp_path / "llama"), language_loss=True)
        folder = brought.reward_model(tmp_path / "reward")
        refused(folder, "reward.lm_weight", "is a reward model", language_loss=True)


def adapter_of(folder, base, task="CAUSAL_LM", **changes):
    """Save a new adapter; it changes nothing, since one of its factors is zero."""
    kind = {
        "CAUSAL_LM": AutoModelForCausalLM,
        "SEQ_CLS": AutoModelForSequenceClassification,
    }[task]
    options = {} if task == "CAUSAL_LM" else {"num_labels": 1}
    model = kind.from_pretrained(base, **options)
    get_peft_model(model, LoraConfig(task_type=task, r=2)).save_pretrained(folder)
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return folder


class TestAdapter:
    def test_stands_for_its_base(self, tmp_path):
        base = brought.llama(tmp_path / "base", templates.GEMMA)
        adapter = adapter_of(tmp_path / "adapter", base)
        taken(adapter)
        refused(adapter, "sft.max_length=999", lengths={"sft": 999})

    def test_whose_base_is_gone_is_refused(self, tmp_path):
        base = brought.llama(tmp_path / "base")
        adapter = adapter_of(tmp_path / "adapter", base)
        shutil.rmtree(base)
        refused(
            adapter, f"an adapter of {base}, which cannot be", "base_model_name_or_path"
        )

    def test_whose_base_lies_beside_it_is_taken(self, tmp_path):
        base = brought.llama(tmp_path / "adapter" / "base")
        taken(adapter_of(tmp_path / "adapter", base, base_model_name_or_path="base"))

    def test_that_names_no_base_is_refused(self, tmp_path):
        base = brought.llama(tmp_path / "base")
        adapter = adapter_of(tmp_path / "a", base, base_model_name_or_path=None)
        refused(adapter, "does not name its base model")

    def test_of_a_reward_model_without_its_head_is_refused(self, tmp_path):
        base = brought.llama(tmp_path / "base")
        adapter = adapter_of(tmp_path / "a", base, "SEQ_CLS", modules_to_save=None)
        refused(adapter, "without its head")

    def test_and_its_base_are_both_part_of_what_it_is(self, tmp_path):
        base = brought.llama(tmp_path / "base")
        adapter = ModelParams(name=str(adapter_of(tmp_path / "adapter", base)))
        identity = {"mode": "json", "context": {"identity": True}}
        before = adapter.model_dump(**identity)
        brought.llama(base, hidden_size=32)
        assert adapter.model_dump(**identity) != before


class TestIdentity:
    """What a fingerprint knows of a template and of the date."""

    @staticmethod
    def of(folder, **changes):
        model = ModelParams(name=str(folder), **changes)
        return model.model_dump(mode="json", context={"identity": True})

    def test_a_template_counts_by_its_content(self, tmp_path):
        folder = brought.llama(tmp_path / "model")
        one, two, other = (
            tmp_path / name for name in ("1.jinja", "2.jinja", "3.jinja")
        )
        for file in (one, two):
            file.write_text(templates.GEMMA)
        other.write_text(templates.MISTRAL_1)
        known = self.of(folder, chat_template=str(one))
        assert self.of(folder, chat_template=str(two)) == known
        assert self.of(folder, chat_template=str(other)) != known
        assert self.of(folder) != known

    def test_the_date_counts(self, tmp_path):
        folder = brought.llama(tmp_path)
        assert self.of(folder) == self.of(folder, template_date="2024-07-26")
        assert self.of(folder) != self.of(folder, template_date="2024-07-27")

    def test_a_folder_counts_by_its_content(self, tmp_path):
        one = brought.llama(tmp_path / "one")
        shutil.copytree(one, tmp_path / "two")
        assert self.of(one) == self.of(tmp_path / "two")
