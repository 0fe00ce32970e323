"""Tiny models of the kinds that people bring, in folders."""

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForMaskedLM,
)

from ser_kedro.models.scratch import train_tokenizer

TEXTS = ["Question: what is a good answer?\n\nAnswer: yes indeed, a very good one"]
SIZES = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}


def save(folder, model, tokenizer):
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tokenizer_of(template=None):
    tokenizer = train_tokenizer(iter(TEXTS), 320)
    tokenizer.chat_template = template
    return tokenizer


def llama(folder, template=None, more=(), pad=None, kind=LlamaForCausalLM, **changes):
    """A Llama; tokens ``more``, and perhaps ``pad``, are above its embedding."""
    tokenizer = tokenizer_of(template)
    size = len(tokenizer)
    tokenizer.add_tokens(list(more))
    if pad:
        tokenizer.add_special_tokens({"pad_token": pad})
    torch.manual_seed(0)
    settings = {
        "vocab_size": size,
        "pad_token_id": None if pad else tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "max_position_embeddings": 512,
    }
    config = LlamaConfig(**{**SIZES, **settings, **changes})
    return save(folder, kind(config), tokenizer)


def reward_model(folder, template=None, labels=1, **changes):
    """A Llama with a head that was not drawn as ours would be."""
    return llama(
        folder,
        template,
        kind=LlamaForSequenceClassification,
        num_labels=labels,
        **changes,
    )


def roberta(folder, positions=66):
    """A RoBERTa that reads letters; its padding token is number 1, as always."""
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    tokens = [*special, *"abcdefghijklmnopqrstuvwxyz:?.,"]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
    )
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=len(tokens),
        max_position_embeddings=positions,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        type_vocab_size=1,
        **SIZES,
    )
    return save(folder, RobertaForMaskedLM(config), tokenizer)
