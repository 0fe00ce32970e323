import math

import numpy as np
import pytest
import torch
from torch import tensor
from transformers import AutoModelForCausalLM

from ser_kedro.errors import ModelError
from ser_kedro.policy import actor_critic
from ser_kedro.policy.actor_critic import ActorCritic, token_log_probs
from ser_kedro.policy.batch import collate
from ser_kedro.policy.ppo_formulas import (
    advantages_and_returns,
    merge_moments,
    next_kl_coefficient,
    policy_losses,
    rewards_of_tokens,
    value_losses,
)
from ser_kedro.policy.ppo_params import PpoParams
from tests.policy.conftest import LORA, ppo_params

MASK = tensor([[True, True, True], [True, True, False]])


def test_the_score_is_on_the_last_real_token_and_kl_on_all_of_them():
    log_ratio = tensor([[0.5, -1.0, 2.0], [1.0, 3.0, 9.0]])

    rewards = rewards_of_tokens(tensor([10.0, 20.0]), log_ratio, MASK, 0.1)

    expected = tensor([[-0.05, 0.1, 9.8], [-0.1, 19.7, 0.0]])
    torch.testing.assert_close(rewards, expected)


def test_gae_by_hand():
    rewards = tensor([[0.0, 0.0, 1.0], [0.5, 2.0, 0.0]])
    values = tensor([[0.2, 0.4, 0.6], [1.0, 1.0, 7.0]])

    advantages, returns = advantages_and_returns(
        rewards, values, MASK, gamma=0.9, lam=0.5
    )

    # First row: δ₂ = 1 - 0.6, δ₁ = 0.9·0.6 - 0.4, δ₀ = 0.9·0.4 - 0.2, γλ = 0.45.
    third, second = 0.4, 0.14 + 0.45 * 0.4
    first = 0.16 + 0.45 * second
    # Second row ends after two tokens, so what stands behind it has no value.
    end, begin = 1.0, 0.4 + 0.45 * 1.0
    expected = tensor([[first, second, third], [begin, end, 0.0]])
    torch.testing.assert_close(advantages, expected)
    torch.testing.assert_close(returns, (expected + values) * MASK)


def test_with_lambda_1_returns_are_sums_of_what_comes():
    rewards = tensor([[1.0, 2.0, 4.0], [1.0, 5.0, 0.0]])

    _, returns = advantages_and_returns(
        rewards, torch.rand(2, 3), MASK, gamma=1.0, lam=1.0
    )

    torch.testing.assert_close(returns, tensor([[7.0, 6.0, 4.0], [6.0, 5.0, 0.0]]))


def test_the_policy_loss_is_clipped_where_it_would_gain():
    ratios = tensor([1.5, 1.5, 0.5, 0.5, 1.1])
    advantages = tensor([2.0, -2.0, 2.0, -2.0, 2.0])

    losses, found = policy_losses(ratios.log(), torch.zeros(5), advantages, 0.2)

    torch.testing.assert_close(found, ratios)
    torch.testing.assert_close(losses, tensor([-2.4, 3.0, -1.0, 1.6, -2.2]))


def test_a_clipped_policy_loss_has_no_gradient():
    log_probs = tensor([0.5, 0.5, 0.0], requires_grad=True)

    losses, _ = policy_losses(log_probs, torch.zeros(3), tensor([1.0, -1.0, 1.0]), 0.2)
    losses.sum().backward()

    torch.testing.assert_close(log_probs.grad, tensor([0.0, math.exp(0.5), -1.0]))


def test_the_value_loss_takes_the_larger_of_two_errors():
    values, old = tensor([1.0, 0.1, -1.0]), torch.zeros(3)

    losses = value_losses(values, old, tensor([1.0, 1.0, 1.0]), 0.2)

    # Clipped to 0.2, 0.1 and -0.2: errors 0.8, 0.9 and 1.2 against 0, 0.9 and 2.
    torch.testing.assert_close(losses, tensor([0.32, 0.405, 2.0]))


@pytest.mark.parametrize(
    ("kl", "expected"),
    [
        (6.0, 0.2),  # on target
        (6.6, 0.2 * (1 + 0.1 * 8 / 10_000)),
        (60.0, 0.2 * (1 + 0.2 * 8 / 10_000)),  # the error is clipped
        (0.0, 0.2 * (1 - 0.2 * 8 / 10_000)),
    ],
)
def test_the_kl_controller_by_hand(kl, expected):
    found = next_kl_coefficient(0.2, kl, 8, PpoParams())

    assert found == pytest.approx(expected, rel=1e-12)


def test_a_fixed_kl_coefficient_stays():
    assert next_kl_coefficient(0.2, 60.0, 8, PpoParams(adaptive_kl=False)) == 0.2


def test_moments_merge_to_those_of_the_whole():
    values = np.random.default_rng(0).normal(3, 2, 50)

    moments = (0.0, 0.0, 0.0)
    for part in (values[:1], values[1:20], values[20:]):
        moments = merge_moments(moments, part.tolist())

    count, mean, squares = moments
    assert count == 50
    assert mean == pytest.approx(values.mean())
    assert squares / count == pytest.approx(values.var())


# Prompts and answers of several lengths; an answer may hold the pad token, 0, too.
ROWS = [
    ([1, 3, 5, 6], [9, 10, 2]),
    ([1, 6], [2]),
    ([3, 5, 7, 4, 5, 8, 8], [9, 0, 11, 9, 9, 2]),
    ([4], [11, 0, 0]),
]


@pytest.fixture
def actor(words_model, lora):
    """Policy and value with all weights moved away from where they start."""
    actor = ActorCritic.load(words_model, ppo_params(lora=lora))
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in actor.trainable().values():
            weight.add_(0.1 * torch.randn_like(weight))
    return actor.eval()


def batch_of(rows):
    prompts, answers = zip(*rows)
    return collate(prompts, answers, 0, torch.device("cpu"))


@torch.no_grad()
def test_a_padded_batch_reads_as_single_rows_do(actor):
    together = actor(batch_of(ROWS), 0.7, entropy=True)
    reference = actor.reference_log_probs(batch_of(ROWS), 0.7)

    for i, row in enumerate(ROWS):
        length = len(row[1])
        alone = actor(batch_of([row]), 0.7, entropy=True)
        for batched, single in zip(together, alone):
            torch.testing.assert_close(
                batched[i, :length], single[0], atol=1e-5, rtol=0
            )
            assert not batched[i, length:].any()
        single = actor.reference_log_probs(batch_of([row]), 0.7)[0]
        torch.testing.assert_close(reference[i, :length], single, atol=1e-5, rtol=0)


@torch.no_grad()
def test_log_probs_and_entropies_are_those_of_the_models_logits(actor):
    for prompt, answer in ROWS:
        ids = torch.tensor([prompt + answer])
        logits = actor.causal(input_ids=ids).logits[0, len(prompt) - 1 : -1] / 0.7
        expected = logits.log_softmax(-1)

        log_probs, _, entropy = actor(batch_of([(prompt, answer)]), 0.7, entropy=True)

        chosen = expected[torch.arange(len(answer)), torch.tensor(answer)]
        torch.testing.assert_close(log_probs[0], chosen, atol=1e-5, rtol=0)
        plain = -(expected.exp() * expected).sum(-1)
        torch.testing.assert_close(entropy[0], plain, atol=1e-5, rtol=0)


def test_the_reference_is_the_start(actor, words_model):
    start = AutoModelForCausalLM.from_pretrained(words_model)
    prompt, answer = ROWS[0]
    logits = start(input_ids=torch.tensor([prompt + answer])).logits[0, 3:-1]
    expected = logits.log_softmax(-1)[torch.arange(3), torch.tensor(answer)]

    found = actor.reference_log_probs(batch_of(ROWS[:1]), 1.0)

    torch.testing.assert_close(found[0], expected, atol=1e-5, rtol=0)
    assert not torch.allclose(actor(batch_of(ROWS[:1]), 1.0)[0], found, atol=1e-3)


@torch.no_grad()
def test_kl_is_over_the_whole_vocabulary(actor):
    prompt, answer = ROWS[0]
    ids = torch.tensor([prompt + answer])
    ours = actor.causal(input_ids=ids).logits[0, 3:-1].log_softmax(-1)
    with actor._as_reference() as reference:
        theirs = reference(input_ids=ids).logits[0, 3:-1].log_softmax(-1)

    found = actor.kl(batch_of(ROWS), 1.0)

    expected = (ours.exp() * (ours - theirs)).sum(-1)
    torch.testing.assert_close(found[0, :3], expected, atol=1e-5, rtol=0)
    assert not found[1, 1:].any()


def test_logits_in_chunks_give_the_same_values_and_gradients(monkeypatch):
    torch.manual_seed(0)
    head = torch.nn.Linear(8, 20)
    states, tokens = torch.randn(11, 8, requires_grad=True), torch.arange(11)
    found = []
    for size in (10**6, 60):  # all at once, three tokens at once
        monkeypatch.setattr(actor_critic, "_LOGITS_AT_ONCE", size)
        log_probs, _ = token_log_probs(head, states, tokens, 0.5)
        gradient = torch.autograd.grad(log_probs.sin().sum(), [states, head.weight])
        found.append((log_probs, *gradient))

    for whole, chunked in zip(*found):
        torch.testing.assert_close(whole, chunked)


def test_one_copy_of_the_weights_with_adapters(words_model):
    actor = ActorCritic.load(words_model, ppo_params(lora=LORA))

    assert actor.reference is None
    names = actor.trainable()
    assert all("lora" in name or "value_head" in name for name in names)


def test_a_model_that_caps_its_logits_is_refused(words_model):
    actor = ActorCritic.load(words_model, ppo_params(lora=None))
    forward = actor.causal.forward

    def capped(**inputs):
        output = forward(**inputs)
        output.logits = output.logits.tanh()
        return output

    actor.causal.forward = capped
    with pytest.raises(ModelError, match="scales or caps its logits"):
        actor.check([1, 5, 6])
