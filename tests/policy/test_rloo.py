import pytest
import torch

from ser_kedro.errors import PolicyError
from tests.policy.conftest import LORA, PROMPTS, count_of_a, ppo_params
from tests.policy.test_ppo import (
    BETA,
    RIGHT,
    dialogue,
    objective,
    right_word,
    weights,
)

pytestmark = pytest.mark.slow


def rloo_params(**changes):
    given = {"algorithm": "rloo", "answers_per_prompt": 2}
    return ppo_params(**given | changes)


def test_a_bandit_comes_near_its_optimum(begin):
    rloo = begin(
        rloo_params(
            steps=40,
            answers_per_prompt=8,
            batch_size=48,
            mini_batch_size=24,
            ppo_epochs=2,
            learning_rate=6e-3,
            whiten_advantages=False,
            max_new_tokens=1,
            kl_coefficient=BETA,
            adaptive_kl=False,
            save_steps=100,
            eval_prompts=0,
        ),
        right_word,
        prompts=[dialogue(word) for word in RIGHT],
    )
    start, optimum = objective(rloo)

    rloo.run()

    reached, _ = objective(rloo)
    assert start < 0.3 * optimum
    assert 0.9 * optimum < reached < optimum + 1e-6


@pytest.mark.parametrize("lora", [None, LORA])
def test_weights_move_and_the_history_is_ppos(begin, lora):
    rloo = begin(rloo_params(lora=lora))
    before = weights(rloo)

    progress = rloo.run()

    after = weights(rloo)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert not any("value_head" in name for name in moved)
    rows = progress.history
    assert [row["step"] for row in rows] == [0, 1, 2, 3]
    assert rows[0]["held_out_kl"] == 0.0
    assert rows[1]["kl"] == pytest.approx(0.0, abs=1e-4)
    assert rows[3]["kl"] != pytest.approx(0.0, abs=1e-3)
    assert rows[3]["held_out_kl"] > 0
    assert rows[2]["updates"] == 8 // 4 * 2
    assert 0 < rows[2]["length"] <= 6


def test_our_rewards_of_our_texts_are_those_that_arrive(begin):
    asked = []

    def reward(prompts, responses):
        asked.append((list(prompts), list(responses)))
        return count_of_a(prompts, responses)

    rloo = begin(rloo_params(eval_prompts=0, missing_eos_penalty=0.5), reward)
    arrived, seen = [], []
    trainer = rloo.trainer
    calculate, generate = trainer._calculate_rewards, trainer._generate_single_turn

    def watched(inputs, prompts, completions, ids):
        found = calculate(inputs, prompts, completions, ids)
        arrived.append((found[:, 0].tolist(), ids))
        return found

    def generated(prompt_ids, *rest):
        seen.append(prompt_ids)
        return generate(prompt_ids, *rest)

    trainer._calculate_rewards = watched
    trainer._generate_single_turn = generated
    rloo.run()

    assert len(asked) == len(arrived) == 3
    for (prompts, texts), (values, ids), prompt_ids in zip(asked, arrived, seen):
        assert len(prompts) == 8
        assert all(prompts[i] == prompts[i + 1] for i in range(0, 8, 2))
        assert prompt_ids == [rloo.encoder.prompt_ids(p) for p in prompts]
        ended = [row[-1] == 2 for row in ids]
        expected = [
            count - 0.5 * (not end)
            for count, end in zip(count_of_a(prompts, texts), ended)
        ]
        assert values == expected
    assert rloo.progress.history[-1]["raw_reward"] == pytest.approx(
        sum(count_of_a(*asked[-1])) / 8
    )


def test_every_prompt_gets_as_many_answers_as_in_ppo(begin):
    counted = []

    def reward(prompts, responses):
        counted.extend(prompt[0]["content"] for prompt in prompts)
        return count_of_a(prompts, responses)

    rloo = begin(
        rloo_params(steps=None, epochs=4, eval_prompts=0), reward, prompts=PROMPTS[:4]
    )
    rloo.run()

    assert rloo.steps == 2
    assert {counted.count(word) for word in counted} == {4}


def test_the_coefficient_is_steered(begin):
    rloo = begin(rloo_params(kl_target=1e-6, kl_horizon=10))

    rows = rloo.run().history

    coefficients = [row["kl_coefficient"] for row in rows[1:]]
    assert coefficients[0] == 0.2
    # Far from the target: 20 % of 8 answers over a horizon of 10.
    assert coefficients[2] == pytest.approx(coefficients[1] * (1 + 0.2 * 8 / 10))
    assert rloo.trainer.beta == coefficients[2]


@pytest.mark.parametrize("lora", [None, LORA])
def test_a_broken_off_run_ends_as_a_whole_one(begin, lora):
    params = rloo_params(lora=lora, steps=4, save_steps=2)
    whole = begin(params, folder="whole")
    expected = whole.run()
    calls = []

    def breaks(prompts, responses):
        calls.append(len(prompts))
        if calls.count(8) == 4:
            raise PolicyError("broken off")
        return count_of_a(prompts, responses)

    with pytest.raises(PolicyError):
        begin(params, breaks).run()

    again = begin(params)
    assert again.progress.step == 2
    found = again.run()

    assert found.history == expected.history
    ours, others = weights(again), weights(whole)
    assert all(torch.equal(ours[name], others[name]) for name in ours)


def test_a_reward_that_is_no_number_stops_the_run(begin):
    with pytest.raises(PolicyError, match="step 1: 8 of 8 rewards are not finite"):
        begin(
            rloo_params(eval_prompts=0),
            lambda prompts, _: [float("nan")] * len(prompts),
        ).run()


def test_groups_must_be_whole():
    with pytest.raises(ValueError, match="multiple of answers_per_prompt"):
        rloo_params(answers_per_prompt=3)
