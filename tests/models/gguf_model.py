"""Tiny GGUF files, written with the makers' own package as llama.cpp writes them."""

import json

import gguf
import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from tests.models import brought

KINDS = {
    "llama": (LlamaConfig, LlamaForCausalLM, gguf.MODEL_ARCH.LLAMA),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, gguf.MODEL_ARCH.QWEN2),
}
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
}
# A type that the package writes and transformers reads: blocks of 32 with a scale.
BLOCKS = gguf.GGMLQuantizationType.Q8_0


def model_of(kind="llama", **changes):
    """Return a model with random weights and the tokenizer that belongs to it."""
    tokenizer = brought.tokenizer_of()
    config, model, _ = KINDS[kind]
    torch.manual_seed(0)
    values = {
        **SIZES,
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "rope_parameters": {"rope_type": "default", "rope_theta": 20000.0},
    }
    made = model(config(**{**values, **changes}))
    for weight in made.parameters():
        # Norms and biases too: a weight that were lost would not be noticed at 1 or 0.
        torch.nn.init.normal_(weight, 0.5, 0.2)
    return made, tokenizer


def write(
    file,
    model,
    tokenizer,
    template=None,
    quantize=False,
    begins=False,
    leave_out=(),
):
    """Write a GGUF file and return what a reader should find, by transformers' names.

    With ``quantize`` the matrices are written in blocks, which rounds them; with
    ``begins`` every row begins with the token for that.
    """
    config = model.config
    architecture = KINDS[config.model_type][2]
    writer = gguf.GGUFWriter(file, gguf.MODEL_ARCH_NAMES[architecture])
    _add_config(writer, config)
    _add_tokenizer(writer, tokenizer, template)
    writer.add_add_bos_token(begins)
    names = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)
    expected = {}
    for name, weight in model.state_dict().items():
        if name in leave_out or (
            config.tie_word_embeddings and name == "lm_head.weight"
        ):
            continue
        values = weight.numpy().astype(np.float32)
        stored = _paired(name, values, config)
        kind = BLOCKS if quantize and values.ndim == 2 else None
        if kind is not None:
            stored = gguf.quantize(stored, kind)
            values = _unpaired(name, gguf.dequantize(stored, kind), config)
        place = names.get_name(name, try_suffixes=(".weight", ".bias"))
        writer.add_tensor(place, stored, raw_dtype=kind)
        expected[name] = torch.from_numpy(values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return expected


def _add_config(writer, config):
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    if config.model_type == "llama":
        writer.add_rope_dimension_count(config.hidden_size // 4)


def _add_tokenizer(writer, tokenizer, template):
    core = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    tokens = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    special = set(tokenizer.all_special_tokens)
    kinds = [
        gguf.TokenType.CONTROL if token in special else gguf.TokenType.NORMAL
        for token, _ in tokens
    ]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([token for token, _ in tokens])
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(merge) for merge in core["merges"]])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    if template is not None:
        writer.add_chat_template(template)


def _heads(name, config):
    if config.model_type != "llama":
        return None
    if "q_proj" in name:
        return config.num_attention_heads
    return config.num_key_value_heads if "k_proj" in name else None


def _paired(name, values, config):
    """Order rows as llama.cpp rotates them: both halves of a head interleaved."""
    heads = _heads(name, config)
    if heads is None:
        return values
    halves = values.reshape(heads, 2, -1, values.shape[-1])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(values.shape)


def _unpaired(name, values, config):
    heads = _heads(name, config)
    if heads is None:
        return values
    pairs = values.reshape(heads, -1, 2, values.shape[-1])
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(values.shape)
