"""A world of a dozen words, and a language model that speaks it."""

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from ser_kedro.models.calibration import Calibration
from ser_kedro.models.encode import Encoder
from ser_kedro.models.params import LoraParams, Scoring
from ser_kedro.models.reward_model import load_reward_model
from ser_kedro.policy.actor_critic import ActorCritic
from ser_kedro.policy.ppo import Ppo
from ser_kedro.policy.ppo_job import PpoJob
from ser_kedro.policy.ppo_params import PpoParams
from ser_kedro.policy.rloo import Rloo
from ser_kedro.preferences.schema import PROMPTS as PROMPTS_SCHEMA
from tests.conftest import WORLD

SPECIAL = ["<pad>", "<begin>", "<end>"]
WORDS = [*SPECIAL, "Question", "Answer", ":", "x", "y", "z", "a", "b", "c"]
LORA = LoraParams(r=8, alpha=16)


def dialogue(text):
    return [{"role": "user", "content": text}]


PROMPTS = [dialogue(text) for text in ("x", "y", "z", "x y", "y z x", "z z") * 2]


@pytest.fixture(scope="session")
def words_model(tmp_path_factory):
    """The folder of a Llama of two small layers with random weights."""
    folder = tmp_path_factory.mktemp("words")
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    pad, begin, end = SPECIAL
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=pad, bos_token=begin, eos_token=end
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=64,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        tie_word_embeddings=True,
        # Adapters leave embeddings and norms alone: with smaller ones no logit could
        # grow enough for a word to become nearly certain.
        initializer_range=0.25,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(params=["full", "lora"])
def lora(request):
    return LORA if request.param == "lora" else None


def ppo_params(**changes):
    return PpoParams(
        **{
            "steps": 3,
            "batch_size": 8,
            "mini_batch_size": 4,
            "ppo_epochs": 2,
            "learning_rate": 1e-2,
            "optimizer": "adamw",
            "max_prompt_length": 16,
            "max_new_tokens": 6,
            "reward": "raw",
            "missing_eos_penalty": 0.0,
            "lora": LORA,
            "save_steps": 1,
            "eval_steps": 2,
            "eval_prompts": 4,
            **changes,
        }
    )


def count_of_a(prompts, responses):
    return [float(response.split().count("a")) for response in responses]


@pytest.fixture
def begin(words_model, tmp_path):
    """Begin a run in the world of words; ``folder`` under the test's own."""

    def make(params, reward=count_of_a, *, folder="run", seed=0, **more):
        torch.manual_seed(seed)
        kind = Rloo if params.algorithm == "rloo" else Ppo
        return kind(
            ActorCritic.load(words_model, params),
            Encoder(AutoTokenizer.from_pretrained(words_model), 64),
            more.pop("prompts", PROMPTS),
            reward,
            params,
            folder=tmp_path / folder,
            seed=seed,
            **more,
        )

    return make


@pytest.fixture
def reward_model(project, sft_model):
    """A reward model with a random head, and its calibration."""
    folder = project / "reward_model"
    model, tokenizer = load_reward_model(sft_model.location, seed=3)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    Calibration(offset=0.1, temperature=0.5).save(folder)
    changes = {"kind": "reward_model", "path": "reward_model", "fingerprint": "rm"}
    return sft_model.model_copy(update=changes)


@pytest.fixture
def job(sft_model, reward_model, table, train_rows):
    prompts = [{n: row[n] for n in PROMPTS_SCHEMA.names} for row in train_rows[:12]]

    def describe(**changes):
        params = {"max_prompt_length": 64, "max_new_tokens": 12, "reward": "sigmoid"}
        return PpoJob(
            sft_model=sft_model,
            reward_model=reward_model,
            prompts=table("prompts", prompts, PROMPTS_SCHEMA),
            params=ppo_params(**{**params, **changes}),
            scoring=Scoring(max_length=256, score_tokens=4096),
            gold=WORLD,
            seed=0,
        )

    return describe
