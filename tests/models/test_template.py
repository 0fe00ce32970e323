"""Chat templates of each kind, with the very text and ids that must come out."""

from datetime import date

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForSequenceClassification

from ser_kedro.models import pack
from ser_kedro.models.encode import Encoder
from ser_kedro.models.scorer import Scorer
from ser_kedro.models.scratch import train_tokenizer
from ser_kedro.models.template import (
    ChatTemplate,
    RefusedDialogue,
    fix_date,
    knows_date,
    merge_system,
    merge_turns,
)
from tests.models import templates

TEXTS = ["Question: what is a good answer?\n\nAnswer: yes indeed, a very good one"]
DAY = date(2024, 7, 26)


def turns(*spoken):
    """``turns("s: be good", "u: what?")``."""
    roles = {"s": "system", "u": "user", "a": "assistant"}
    return [{"role": roles[text[0]], "content": text[3:]} for text in spoken]


def tokenizer_with(template):
    tokenizer = train_tokenizer(iter(TEXTS), 320)
    tokenizer.chat_template = template
    return tokenizer


def row(template, prompt, response="yes"):
    """The text of a row, and what the encoder said of its prompt."""
    encoder = Encoder(tokenizer_with(template), 512)
    return encoder.text(prompt, response), encoder.open(prompt)


USER = turns("u: one")
SYSTEM = turns("s: be good", "u: one")
TWICE = turns("u: one", "u: two")
ALL = turns("s: be good", "u: one", "u: two", "a: no", "u: three")


class TestARefusedSystemTurn:
    def test_is_merged_into_the_first_user_turn(self):
        text, opened = row(templates.GEMMA, SYSTEM)
        assert text == (
            "<|begin|><start_of_turn>user\nbe good\n\none<end_of_turn>\n"
            "<start_of_turn>model\nyes<end_of_turn><|end|>"
        )
        assert (opened.merged_system, opened.merged_turns) == (True, False)

    def test_is_merged_whatever_the_template_calls_it(self):
        text, opened = row(templates.MISTRAL_1, SYSTEM)
        assert text == "<|begin|>[INST] be good\n\none [/INST]yes<|end|>"
        assert (opened.merged_system, opened.merged_turns) == (True, False)

    def test_is_left_alone_where_the_template_takes_it(self):
        text, opened = row(templates.LLAMA_31, SYSTEM)
        assert "system<|end_header_id|>\n\nbe good<|eot_id|>" in text
        assert not opened.merged_system

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            (("s: x", "u: one"), ("u: x\n\none",)),
            (("s: x", "s: y ", "u: one"), ("u: x\n\ny\n\none",)),
            (("u: one", "s: x", "a: no"), ("u: one\n\nx", "a: no")),
            (("u: one", "s: x"), ("u: one\n\nx",)),
            (("s: x", "a: no", "u: one"), ("u: x", "a: no", "u: one")),
            (("u: a", "a: b", "s: x", "u: c"), ("u: a", "a: b", "u: x\n\nc")),
            (("u: one", "u: two"), ("u: one", "u: two")),
        ],
    )
    def test_goes_to_the_user_turn_beside_it(self, before, after):
        assert merge_system(turns(*before)) == turns(*after)


class TestConsecutiveTurns:
    @pytest.mark.parametrize("template", [templates.GEMMA, templates.MISTRAL_1])
    def test_are_merged_with_a_blank_line(self, template):
        text, opened = row(template, TWICE)
        assert "one\n\ntwo" in text
        assert (opened.merged_system, opened.merged_turns) == (False, True)

    def test_are_merged_beside_a_system_turn(self):
        text, opened = row(templates.GEMMA, ALL)
        assert text == (
            "<|begin|><start_of_turn>user\nbe good\n\none\n\ntwo<end_of_turn>\n"
            "<start_of_turn>model\nno<end_of_turn>\n"
            "<start_of_turn>user\nthree<end_of_turn>\n"
            "<start_of_turn>model\nyes<end_of_turn><|end|>"
        )
        assert (opened.merged_system, opened.merged_turns) == (True, True)

    def test_are_left_alone_where_the_template_takes_them(self):
        text, opened = row(templates.LLAMA_31, TWICE)
        assert "one<|eot_id|><|start_header_id|>user<|end_header_id|>\n\ntwo" in text
        assert not opened.merged_turns

    def test_any_role(self):
        given = turns("u: a", "a: b", "a: c", "u: d")
        assert merge_turns(given) == turns("u: a", "a: b\n\nc", "u: d")


class TestWhatCannotBeRendered:
    def test_says_what_the_template_says(self):
        with pytest.raises(RefusedDialogue, match=r"refuses a dialogue \(Conversa"):
            row(templates.GEMMA, turns("a: hello", "u: one"))

    @pytest.mark.parametrize(
        "template",
        ["{{ messages[9].content }}", "{{ messages[0].name + 1 }}", "{% if %}"],
    )
    def test_a_broken_template_is_no_traceback(self, template):
        with pytest.raises(RefusedDialogue):
            row(template, USER)

    def test_an_answer_alone_can_be_refused(self):
        template = (
            "{% for m in messages %}{% if m.content == 'bad' %}"
            "{{ raise_exception('no') }}{% endif %}{{ m.content }}{% endfor %}"
        )
        assert row(template, USER)[0] == "oneyes<|end|>"
        with pytest.raises(RefusedDialogue, match=r"\(no\)"):
            row(template, USER, "bad")


class TestATemplateThatChangesWithTheLastTurn:
    def test_keeps_the_prompt_as_it_is_without_an_answer(self):
        text, opened = row(templates.MISTRAL_3, SYSTEM)
        assert text == "<|begin|>[INST] be good\n\none[/INST] yes<|end|>"
        assert not opened.leads

    def test_follows_the_template_where_it_does_not_matter(self):
        encoder = Encoder(tokenizer_with(templates.MISTRAL_3), 512)
        prompt = turns("u: one", "a: no", "u: two")
        (pair,) = encoder.pairs([prompt], ["yes"], ["no"])
        whole = encoder.tokenizer.apply_chat_template(
            [*prompt, *turns("a: yes")], return_dict=False
        )
        assert pair.prompt + pair.a == whole
        assert encoder.open(prompt).leads

    @pytest.mark.parametrize(
        "prompt", [USER, SYSTEM, turns("s: x", *["u: a", "a: b"] * 2, "u: c")]
    )
    def test_gives_a_prompt_the_same_ids_with_and_without_an_answer(self, prompt):
        encoder = Encoder(tokenizer_with(templates.MISTRAL_3), 512)
        (pair,) = encoder.pairs([prompt], ["yes"], ["no, not a good one"])
        assert encoder.prompt_ids(prompt) == pair.prompt
        assert pair.prompt == encoder.tokenizer.apply_chat_template(
            prompt, add_generation_prompt=True, return_dict=False
        )

    def test_writes_what_it_writes_around_an_answer(self):
        template = (
            "{{ messages | length }}{% for m in messages %}<{{ m.role }}>\n"
            "{{ m.content }}</end>\n{% endfor %}"
            "{% if add_generation_prompt %}<assistant>\n{% endif %}"
        )
        text, opened = row(template, USER, " end ")
        assert text == "1<user>\none</end>\n<assistant>\nend</end><|end|>"
        assert not opened.leads

    def test_a_template_that_hides_the_answer_leaves_answer_and_end(self):
        text, _ = row("{{ messages[0].content }}{{ messages | length }}", USER)
        assert text == "one1yes<|end|>"


class TestTheDate:
    @pytest.mark.parametrize("template", [templates.LLAMA_31, templates.LLAMA_32])
    def test_is_the_one_that_was_given(self, template):
        text, _ = row(fix_date(template, date(2020, 1, 2)), USER)
        assert text.startswith(
            "<|begin|><|start_header_id|>system<|end_header_id|>\n\n"
            "Today Date: 02 Jan 2020\n\n<|eot_id|>"
        )

    def test_without_it_the_text_would_be_another_tomorrow(self):
        today = date.today()
        assert row(templates.TODAY, USER)[0].startswith(today.isoformat())
        assert (
            row(fix_date(templates.TODAY, DAY), USER)[0] == "2024-07-26|one|yes<|end|>"
        )

    @pytest.mark.parametrize("code", ["%A, %-d %B %y", "%H:%M", "%j %% %Y", "%x"])
    def test_reads_in_any_format(self, code):
        template = fix_date("{{ strftime_now('" + code + "') }}", DAY)
        assert ChatTemplate(tokenizer_with(template)).open(USER).text == DAY.strftime(
            code
        )

    @pytest.mark.parametrize("template", [templates.GEMMA, templates.MISTRAL_3, "\n x"])
    def test_a_template_that_does_not_ask_stays_the_same(self, template):
        assert fix_date(template, DAY) == template
        assert not knows_date(template)

    @pytest.mark.parametrize("space", ["", " ", "\n", "\n\n  "])
    def test_adds_no_text_of_its_own(self, space):
        template = space + "{{ date_string }}"
        text = ChatTemplate(tokenizer_with(fix_date(template, DAY))).open(USER).text
        plain = tokenizer_with(template).apply_chat_template(
            USER, tokenize=False, date_string="26 Jul 2024"
        )
        assert text == plain

    def test_can_be_fixed_again(self):
        once = fix_date(templates.LLAMA_32, DAY)
        assert fix_date(once, date(2020, 1, 2)) == fix_date(
            templates.LLAMA_32, date(2020, 1, 2)
        )

    def test_is_saved_with_the_tokenizer(self, tmp_path):
        tokenizer_with(fix_date(templates.LLAMA_32, DAY)).save_pretrained(tmp_path)
        loaded = AutoTokenizer.from_pretrained(tmp_path)
        assert "26 Jul 2024" in loaded.apply_chat_template(USER, tokenize=False)


CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class TestSpecialTokensInATextOfTheUser:
    """They are spelt out (tests/models/test_special_tokens.py)."""

    PROMPT = turns("u: what <|pad|> is <|end|> a good one?")
    RESPONSES = ("yes <|im_end|> <|pad|>", "no. <|end|>")

    @pytest.mark.parametrize("template", [None, CHATML, templates.GEMMA])
    def test_a_row_reads_as_its_text_with_no_more_special_tokens(self, template):
        encoder = Encoder(tokenizer_with(template), 512)
        special = set(encoder.tokenizer.all_special_ids)

        def row(prompt, response):
            (pair,) = encoder.pairs([prompt], [response], [response])
            return pair.prompt + pair.a

        harmless = [each for each in row(USER, "yes") if each in special]
        for response in self.RESPONSES:
            ids = row(self.PROMPT, response)
            assert encoder.tokenizer.decode(ids) == encoder.text(self.PROMPT, response)
            assert [each for each in ids if each in special] == harmless
            assert ids[-1] == encoder.tokenizer.eos_token_id

    def test_a_reward_is_the_same_alone_and_beside_others(self):
        encoder = Encoder(tokenizer_with(None), 512)
        torch.manual_seed(0)
        sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
        config = LlamaConfig(
            vocab_size=len(encoder.tokenizer),
            num_attention_heads=2,
            num_labels=1,
            pad_token_id=encoder.tokenizer.pad_token_id,
            **sizes,
        )
        model = LlamaForSequenceClassification(config).eval()
        plain = Scorer(model, encoder, pack.enable(model, wanted=False), 4096)
        pairs = encoder.pairs(
            [self.PROMPT, USER], *([r, "yes " * 30] for r in self.RESPONSES)
        )
        together = plain.rewards(pairs)
        alone = [plain.rewards([pair])[0] for pair in pairs]
        packed = Scorer(model, encoder, pack.enable(model), 4096).rewards(pairs)
        assert together == pytest.approx(np.array(alone), abs=1e-5)
        assert packed == pytest.approx(together, abs=1e-5)
