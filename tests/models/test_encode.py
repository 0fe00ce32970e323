import pytest
import torch
from tokenizers import (
    Tokenizer,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import (
    BertTokenizer,
    GPT2Config,
    GPT2ForSequenceClassification,
    PreTrainedTokenizerFast,
)

from ser_kedro.errors import ModelError
from ser_kedro.models.encode import (
    EncodedPair,
    Encoder,
    EncodingCount,
    ensure_pad_token,
)
from ser_kedro.models.scratch import train_tokenizer

TEXTS = ["Question: what is a good answer?\n\nAnswer: yes indeed, a very good one"]
PROMPT = [{"role": "user", "content": "what is good?"}]
DIALOGUE = [
    {"role": "system", "content": "be good"},
    {"role": "user", "content": "what is it?"},
    {"role": "assistant", "content": "a question"},
    {"role": "user", "content": "and the answer?"},
]
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def plain():
    return train_tokenizer(iter(TEXTS), 320)


def chat():
    tokenizer = plain()
    tokenizer.chat_template = CHATML
    return tokenizer


def chat_eos():
    tokenizer = plain()
    tokenizer.chat_template = CHATML.replace("<|im_end|>", "<|end|>")
    return tokenizer


def with_bos():
    tokenizer = plain()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin|> $A", special_tokens=[("<|begin|>", tokenizer.bos_token_id)]
    )
    return tokenizer


def chat_bos():
    """As Llama 3's: the template and the tokenizer both write the opening token."""
    tokenizer = with_bos()
    tokenizer.chat_template = "{{ bos_token }}" + CHATML
    return tokenizer


def pad_is_eos():
    tokenizer = plain()
    tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def metaspace():
    """As Llama 2's and Mistral's: a word keeps its space, a text is given one."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    trainer = trainers.BpeTrainer(
        vocab_size=200, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<unk>",
    )


def bert():
    words = "[PAD] [UNK] [CLS] [SEP] [MASK] question answer : ? . , what is good yes no"
    letters = "abcdefghijklmnopqrstuvwxyz"
    tokens = [*words.split(), *letters, *(f"##{letter}" for letter in letters)]
    return BertTokenizer(vocab={token: i for i, token in enumerate(tokens)})


TOKENIZERS = [
    plain, chat, chat_eos, with_bos, chat_bos, pad_is_eos, metaspace, bert
]  # fmt: skip
every_tokenizer = pytest.mark.parametrize("make", TOKENIZERS)


def one(encoder, prompt=PROMPT, a="yes", b="no"):
    return encoder.pairs([prompt], [a], [b])[0]


@every_tokenizer
@pytest.mark.parametrize("prompt", [PROMPT, DIALOGUE])
def test_a_row_is_what_the_tokenizer_makes_of_its_text(make, prompt):
    encoder = Encoder(make(), 512)
    a, b = "yes, a good one?", " no\n\nno "

    pair = one(encoder, prompt, a, b)

    ids = [encoder.tokenizer(encoder.text(prompt, r))["input_ids"] for r in (a, b)]
    assert [pair.prompt + pair.a, pair.prompt + pair.b] == ids
    assert not pair.overlong


@every_tokenizer
def test_a_row_opens_and_closes_once(make):
    encoder = Encoder(make(), 512)
    tokenizer = encoder.tokenizer

    row = (pair := one(encoder)).prompt + pair.a

    end = tokenizer.sep_token_id if make is bert else tokenizer.eos_token_id
    assert row[-1] == end
    assert row[-2] != end
    if make in (with_bos, chat_bos, metaspace):
        assert row.count(tokenizer.bos_token_id) == 1
        assert row[0] == tokenizer.bos_token_id


@every_tokenizer
def test_the_ids_of_a_prompt_alone_open_its_rows(make):
    encoder = Encoder(make(), 512)

    assert encoder.prompt_ids(PROMPT) == one(encoder).prompt


@every_tokenizer
def test_truncation_cuts_the_prompt_on_the_left_alike_for_both(make):
    whole = one(Encoder(make(), 512), a="yes", b="no, not a good one")
    length = len(whole.prompt) + len(whole.b) - 5

    cut = one(Encoder(make(), length), a="yes", b="no, not a good one")

    opening = len(Encoder(make(), 512).prefix)
    assert cut.overlong
    assert (cut.a, cut.b) == (whole.a, whole.b)
    assert cut.prompt[:opening] == whole.prompt[:opening]
    assert cut.prompt[opening:] == whole.prompt[opening + 5 :]


@every_tokenizer
def test_a_row_of_exactly_the_length_is_not_overlong(make):
    whole = one(Encoder(make(), 512))
    length = len(whole.prompt) + max(len(whole.a), len(whole.b))

    assert one(Encoder(make(), length)) == whole


@every_tokenizer
@pytest.mark.parametrize("length", [8, 12, 20])
def test_no_row_is_longer_than_asked(make, length):
    encoder = Encoder(make(), length)

    pair = one(encoder, DIALOGUE, "yes " * 50, "no")

    assert len(pair.prompt) + max(len(pair.a), len(pair.b)) <= length
    assert len(encoder.prompt_ids(DIALOGUE)) <= length
    assert pair.a[-len(encoder.suffix) :] == encoder.suffix


def test_truncation_can_make_responses_equal():
    encoder = Encoder(plain(), 16)

    pair = one(encoder, a="a good one " * 20 + "yes", b="a good one " * 20 + "no")

    assert pair.overlong
    assert pair.equal


def test_a_dialogue_reads_as_in_the_paper():
    encoder = Encoder(plain(), 64)

    assert encoder.text(DIALOGUE, " so it is ") == (
        "be good\n\nQuestion: what is it?\n\nAnswer: a question\n\n"
        "Question: and the answer?\n\nAnswer: so it is<|end|>"
    )


def test_a_chat_template_is_the_tokenizers_own():
    encoder = Encoder(chat(), 64)

    assert encoder.text(PROMPT, "yes") == (
        "<|im_start|>user\nwhat is good?<|im_end|>\n"
        "<|im_start|>assistant\nyes<|im_end|><|end|>"
    )


def test_a_template_that_rewrites_the_prompt_leaves_it_as_without_an_answer():
    tokenizer = chat()
    tokenizer.chat_template = "{{ messages | length }}" + CHATML

    text = Encoder(tokenizer, 64).text(PROMPT, "yes")

    assert text == "1" + Encoder(chat(), 64).text(PROMPT, "yes")


def test_tokens_that_the_model_does_not_know_are_an_error():
    tokenizer = plain()
    model = model_for(tokenizer)
    tokenizer.add_tokens(["<|tool|>"])

    with pytest.raises(ModelError, match="1 tokens that the model does not know"):
        ensure_pad_token(tokenizer, model)


EQUAL = EncodedPair([1], [2], [2], overlong=True)
LONG = EncodedPair([1], [2], [3], overlong=True)
SHORT = EncodedPair([1], [2], [3], overlong=False)


def test_truncated_pairs_are_kept_and_counted_but_for_equal_ones():
    counts = EncodingCount()

    admitted = [counts.admit(pair, "truncate") for pair in (EQUAL, LONG, SHORT)]

    assert admitted == [False, True, True]
    assert counts.as_metrics() == {
        **{"pairs": 3, "overlong_pairs": 2},
        **{"equal_pairs": 1, "trained_pairs": 2},
    }


def test_overlong_pairs_are_dropped_and_counted():
    counts = EncodingCount()

    admitted = [counts.admit(pair, "drop") for pair in (EQUAL, LONG, SHORT)]

    assert admitted == [False, False, True]
    assert counts.as_metrics() == {
        **{"pairs": 3, "overlong_pairs": 2},
        **{"equal_pairs": 0, "trained_pairs": 1},
    }


def test_equal_responses_are_fine_where_nothing_compares_them():
    counts = EncodingCount()

    assert counts.admit(EQUAL, "truncate", compared=False)
    assert counts.equal == 0


def model_for(tokenizer):
    return GPT2ForSequenceClassification(
        GPT2Config(vocab_size=len(tokenizer), n_embd=8, n_layer=1, n_head=1)
    )


@pytest.mark.parametrize("pad", ["<|end|>", None])
def test_a_pad_token_is_made_where_there_is_none_apart_from_eos(pad):
    tokenizer = plain()
    tokenizer.pad_token = pad
    model = model_for(tokenizer)
    size = len(tokenizer)
    # Scratch's own word for it is in the vocabulary already.
    ensure_pad_token(tokenizer, model)

    assert tokenizer.pad_token_id not in (None, tokenizer.eos_token_id)
    assert model.config.pad_token_id == tokenizer.pad_token_id
    assert model.get_input_embeddings().num_embeddings == len(tokenizer) == size


def test_a_new_pad_token_gets_a_row_of_embeddings():
    tokenizer = metaspace()
    tokenizer.pad_token = tokenizer.eos_token
    model = model_for(tokenizer)
    size = len(tokenizer)

    ensure_pad_token(tokenizer, model)

    assert len(tokenizer) == size + 1
    assert model.get_input_embeddings().num_embeddings == size + 1
    assert model.config.pad_token_id == size


def test_a_new_row_is_the_same_under_every_seed():
    """And zero: what is drawn depends on the number of threads, too."""
    rows = []
    for seed in (1, 2):
        tokenizer = metaspace()
        tokenizer.pad_token = tokenizer.eos_token
        torch.manual_seed(0)
        model = model_for(tokenizer)
        torch.manual_seed(seed)
        after = torch.rand(1)
        torch.manual_seed(seed)
        ensure_pad_token(tokenizer, model)

        assert torch.rand(1) == after  # nor does it change what is drawn later
        rows.append(model.get_input_embeddings().weight)

    assert torch.equal(*rows)
    assert not rows[0][-1].any() and rows[0][:-1].any(1).all()


def test_a_real_pad_token_is_left_alone():
    tokenizer = plain()
    before = tokenizer.pad_token_id

    ensure_pad_token(tokenizer, model_for(tokenizer))

    assert tokenizer.pad_token_id == before
