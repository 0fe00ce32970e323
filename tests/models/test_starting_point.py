"""What SFT does with a model: train it or pass it on, and why."""

import json

import pytest

from ser_kedro.errors import ModelError
from ser_kedro.models.params import ModelParams, ScratchParams
from ser_kedro.models.source import start_of
from ser_kedro.models.starting_point import (
    StartingPoint,
    judge_template,
    starting_point,
)
from tests.models import brought, gguf_model, templates

GIVEN = ModelParams(name="given")
SCRATCH = ModelParams(
    name="demo",
    scratch=ScratchParams(
        vocab_size=64, hidden_size=8, intermediate_size=8, layers=1, heads=1
    ),
)
INSTRUCT = StartingPoint(False, "an instruct model")
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
    "{% endfor %}"
)


def unasked():
    raise AssertionError("the template was looked at")


class TestDecision:
    @pytest.mark.parametrize("when", ["auto", "always"])
    def test_random_weights_are_trained(self, when):
        found = starting_point(SCRATCH, "language_model", when, unasked)
        assert str(found) == "SFT trains it: a model from scratch knows nothing yet"

    @pytest.mark.parametrize("kind", ["encoder", "reward_model"])
    @pytest.mark.parametrize("when", ["auto", "never"])
    def test_what_cannot_be_trained_is_passed_on(self, kind, when):
        found = starting_point(GIVEN, kind, when, unasked)
        assert not found.trained
        assert kind.replace("_", " ") in found.reason

    def test_the_user_decides_for_a_language_model(self):
        for when, said in (("always", "trains it"), ("never", "is skipped")):
            found = starting_point(GIVEN, "language_model", when, unasked)
            assert str(found) == f"SFT {said}: sft.when={when}"

    def test_else_the_template_does(self):
        found = starting_point(GIVEN, "language_model", "auto", lambda: INSTRUCT)
        assert found is INSTRUCT

    @pytest.mark.parametrize(
        ("model", "kind", "when", "said"),
        [
            (SCRATCH, "language_model", "never", "sft.when=never: demo is a model fr"),
            (GIVEN, "encoder", "always", "sft.when=always: given is an encoder,"),
            (GIVEN, "reward_model", "always", "sft.when=always: given is a reward m"),
        ],
    )
    def test_what_cannot_be_is_one_line(self, model, kind, when, said):
        with pytest.raises(ModelError, match=f"^{said}.*leave sft.when at auto$"):
            starting_point(model, kind, when, unasked)


class TestTemplate:
    def judged(self, template, *ends):
        return judge_template(brought.tokenizer_of(template), ends)

    @pytest.mark.parametrize(
        ("template", "end"),
        [
            (templates.GEMMA, "<end_of_turn>"),
            (templates.LLAMA_31, "<|eot_id|>"),
            (CHATML, "<|im_end|>"),
            ("{% for m in messages %}{{ m.content }} </s>{% endfor %}", "</s>"),
        ],
    )
    def test_that_closes_an_answer_where_the_model_stops(self, template, end):
        found = self.judged(template, "<|endoftext|>", end)
        assert not found.trained
        assert found.reason == f"an instruct model, which closes its answers by {end}"

    def test_that_closes_it_by_the_tokenizers_own_end(self):
        end = brought.tokenizer_of().eos_token
        assert not self.judged(templates.MISTRAL_1, end).trained

    def test_of_a_base_model_that_stops_elsewhere(self):
        found = self.judged(CHATML, "<|endoftext|>")
        assert found.trained
        assert "it stops at <|endoftext|>" in found.reason

    def test_that_is_not_there(self):
        assert self.judged(None, "</s>") == StartingPoint(
            True, "a base model, since it has no chat template"
        )

    @pytest.mark.parametrize(
        "template", ["{{ raise_exception('no') }}", "{{ messages | length }}</s>"]
    )
    def test_that_does_not_tell_leaves_the_model_to_be_trained(self, template):
        found = self.judged(template, "</s>")
        assert found.trained
        assert "does not show how an answer is closed" in found.reason

    def test_whose_answers_stay_open(self):
        found = self.judged("{% for m in messages %}|{{ m.content }}{% endfor %}", "|")
        assert found.trained


class TestFiles:
    """Which tokens a model stops at is read beside its weights."""

    def start(self, folder, **changes):
        model = ModelParams(name=str(folder), **changes)
        return start_of(model, "language_model", "auto")

    def test_generation_config_names_more_of_them(self, tmp_path):
        folder = brought.llama(tmp_path, templates.GEMMA, more=["<end_of_turn>"])
        assert self.start(folder).trained
        tokenizer = brought.tokenizer_of()
        ends = [tokenizer.eos_token_id, len(tokenizer)]
        settings = {"eos_token_id": ends}
        (folder / "generation_config.json").write_text(json.dumps(settings))
        assert not self.start(folder).trained

    def test_a_template_that_is_given_makes_no_base_model_an_instruct_model(
        self, tmp_path
    ):
        folder, file = brought.llama(tmp_path / "m"), tmp_path / "chat.jinja"
        file.write_text(CHATML)
        assert self.start(folder, chat_template=str(file)).trained

    def test_a_gguf_file_says_it_by_its_tokenizer(self, tmp_path):
        for template, trained in ((templates.MISTRAL_1, False), (CHATML, True)):
            file = tmp_path / f"{trained}.gguf"
            gguf_model.write(file, *gguf_model.model_of(), template)
            assert self.start(file).trained is trained

    def test_a_tokenizer_that_cannot_be_read_leaves_the_model_to_be_trained(
        self, tmp_path
    ):
        found = self.start(tmp_path)
        assert str(found) == "SFT trains it: its tokenizer cannot be read yet"
