"""Sampling against transformers' own, and what autocast would have computed."""

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from ser_kedro.errors import ModelError
from ser_kedro.models.half import bf16_linears, hold_bf16
from ser_kedro.policy.actor_critic import ActorCritic
from ser_kedro.policy.batch import collate
from ser_kedro.policy.generate import sample
from tests.policy.conftest import ppo_params

CPU = torch.device("cpu")
PROMPTS = [[3, 6, 5], [3, 6, 7, 8, 5], [3, 8, 5, 4]]
END = 2


@pytest.fixture
def model(words_model):
    return AutoModelForCausalLM.from_pretrained(words_model).eval()


def drawn(model, prompts=PROMPTS, *, ends=(), count=1, seed=1, **changes):
    batch = collate(prompts, [[]] * len(prompts), 0, CPU)
    params = ppo_params(**{"max_new_tokens": 20, **changes})
    torch.manual_seed(seed)
    return sample(model, batch, params, set(ends), count)


@pytest.mark.parametrize(
    "changes", [{}, {"temperature": 0.7, "top_k": 5}, {"top_p": 0.8}]
)
def test_the_draws_are_those_of_transformers(model, changes):
    answers = drawn(model, **changes)

    batch = collate(PROMPTS, [[]] * 3, 0, CPU)
    torch.manual_seed(1)
    settings = {"top_k": 0, **changes}
    ids = model.generate(
        input_ids=batch.prompts,
        attention_mask=batch.prompt_mask.long(),
        do_sample=True,
        max_new_tokens=20,
        eos_token_id=None,
        pad_token_id=0,
        **settings,
    )
    assert answers == ids[:, batch.prompts.shape[1] :].tolist()


def test_an_answer_ends_with_its_first_eos_and_leaves_the_others_alone(model):
    """With one likely word, the greedy answers are known without any draw."""
    whole = drawn(model, top_k=1)
    ends = {whole[0][2]}
    expected = [
        next((row[: i + 1] for i, token in enumerate(row) if token in ends), row)
        for row in whole
    ]
    assert len({len(row) for row in expected}) > 1

    assert drawn(model, ends=ends, top_k=1) == expected


def test_several_answers_to_a_prompt_read_it_once(model):
    """They are those of a batch in which the prompt stands as often."""
    several = [prompt for prompt in PROMPTS for _ in range(4)]
    read = []
    model.register_forward_pre_hook(
        lambda _, __, given: read.append(given["input_ids"].shape), with_kwargs=True
    )

    answers = drawn(model, count=4, ends=[END])
    assert read[0] == (3, 5)
    assert answers == drawn(model, several, ends=[END])


def test_a_model_that_keeps_nothing(model):
    class Recurrent(type(model)):
        def forward(self, input_ids, cache_params=None): ...

    model.__class__ = Recurrent

    with pytest.raises(ModelError, match="llama: keeps no keys and values"):
        drawn(model)


def test_other_positions_than_llamas():
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=12, n_positions=64, n_embd=32, n_layer=2, n_head=2,
        bos_token_id=1, eos_token_id=2, initializer_range=0.25,
    )  # fmt: skip
    model = GPT2LMHeadModel(config).eval()

    together = drawn(model, top_k=1)

    assert together == [drawn(model, [prompt], top_k=1)[0] for prompt in PROMPTS]


@pytest.mark.parametrize("lasting", [True, False])
def test_halved_layers_give_what_autocast_gives(words_model, lora, lasting):
    actor = ActorCritic.load(words_model, ppo_params(lora=lora)).eval()
    batch = collate(PROMPTS, [[4, 9, 2], [7, 2], [9, 9, 9, 9]], 0, CPU)
    model = actor.language_model
    own = dict(model.named_parameters())
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = actor(batch, 1.0)[0]
        if lasting:
            hold_bf16(model)
            found = actor(batch, 1.0)[0]
        else:
            with bf16_linears(model):
                found = actor(batch, 1.0)[0]
                assert any(w.dtype == torch.bfloat16 for w in model.parameters())

    assert torch.equal(found, expected)
    if not lasting:
        assert all(w is own[name] for name, w in model.named_parameters())
