from itertools import islice

import numpy as np
import pytest
from pydantic import ValidationError

from ser_kedro.preferences.demo_world.words import FILLERS
from ser_kedro.preferences.demo_world.world import (
    WorldParams,
    _find_phrases,
    _hidden,
    draw_pairs,
    gold_reward,
    gold_rewards,
)
from ser_kedro.preferences.groups import group_prompts
from ser_kedro.preferences.schema import Message, prompt_key


@pytest.fixture(scope="module")
def params():
    return WorldParams(pairs=2500, test_pairs=1000)


@pytest.fixture(scope="module")
def train(params):
    return list(draw_pairs(params, "train"))


@pytest.fixture(scope="module")
def held_out(params):
    return list(draw_pairs(params, "test"))


def gaps(params, pairs):
    prompts = [pair.prompt for pair in pairs]
    chosen = gold_rewards(params, prompts, [pair.chosen for pair in pairs])
    return chosen - gold_rewards(params, prompts, [pair.rejected for pair in pairs])


class TestDrawPairs:
    def test_same_params_give_same_pairs(self, params, train):
        again = WorldParams(**params.model_dump())
        assert list(draw_pairs(again, "train")) == train

    def test_seed_changes_everything(self, params, train):
        other = draw_pairs(params.model_copy(update={"seed": 1}), "train")
        assert not {pair.pair_id for pair in other} & {pair.pair_id for pair in train}

    def test_counts(self, train, held_out):
        assert (len(train), len(held_out)) == (2500, 1000)

    def test_pairs_are_usable(self, train):
        for pair in train:
            assert pair.chosen and pair.rejected and pair.chosen != pair.rejected
            assert [turn.role for turn in pair.prompt] == ["user"]

    def test_parts_share_no_prompt(self, train, held_out):
        assert not {p.prompt for p in train} & {p.prompt for p in held_out}

    def test_share_of_repeated_prompts(self, params, train):
        distinct = len({pair.prompt for pair in train})
        assert distinct == round(params.pairs * (1 - params.repeated_prompts))

    def test_near_copies_do_not_chain(self, train):
        keys = sorted({prompt_key(pair.prompt) for pair in train})
        sizes = np.bincount(group_prompts(keys))
        assert sizes.max() <= 3
        assert len(sizes) > 0.99 * len(keys)

    def test_lengths(self, train):
        lengths = [len(text.split()) for p in train for text in (p.chosen, p.rejected)]
        low, high = np.percentile(lengths, [5, 95])
        assert low >= 8
        assert high <= 40

    def test_nearly_equal_responses_still_differ(self):
        params = WorldParams(
            pairs=2000,
            phrases=20,
            phrases_per_response=(2, 2),
            zipf_exponent=3,
            politeness=0,
            fillers=0,
        )
        assert all(pair.chosen != pair.rejected for pair in draw_pairs(params, "train"))

    def test_traits_go_with_quality_only_in_part(self, params, train):
        texts = [text for pair in train for text in (pair.chosen, pair.rejected)]
        prompts = [pair.prompt for pair in train for _ in range(2)]
        gold = gold_rewards(params, prompts, texts)
        polite = np.array([text.count(".") > 1 for text in texts])
        assert 0.35 < polite.mean() < 0.45
        assert 0.1 < np.corrcoef(gold, polite)[0, 1] < 0.4
        assert 0.02 < np.corrcoef(gold, [len(text) for text in texts])[0, 1] < 0.5


class TestSkill:
    """Writers who differ: the phrases of a response are good or bad together."""

    @staticmethod
    def alike(skill):
        """Correlation of two phrases of a response, and the spread of gold rewards."""
        params = WorldParams(pairs=2000, skill=skill)
        hidden = _hidden(params)
        texts = [
            text
            for pair in draw_pairs(params, "train")
            for text in (pair.chosen, pair.rejected)
        ]
        found = [_find_phrases(hidden, text) for text in texts]
        random = np.random.default_rng(0)
        two = np.array([random.permutation(row)[:2] for row in found])
        quality = hidden.weights[two]
        spread = np.std([hidden.weights[row].sum() for row in found])
        return np.corrcoef(quality.T)[0, 1], spread

    def test_makes_phrases_alike_and_leaves_the_spread(self):
        correlations, spreads = zip(*map(self.alike, (0.0, 0.5, 1.0)), strict=True)
        assert abs(correlations[0]) < 0.06
        assert 0.08 < correlations[1] < 0.2
        assert 0.3 < correlations[2] < 0.45
        assert np.allclose(spreads, 1, atol=0.05)

    def test_labels_are_as_often_right(self, params, held_out):
        skilled = params.model_copy(update={"skill": 1.0})
        right = [
            (gaps(world, list(draw_pairs(world, "test"))) > 0).mean()
            for world in (params, skilled)
        ]
        assert right[0] == pytest.approx(right[1], abs=0.02)


class TestLabels:
    def test_gold_reward_explains_most_labels(self, params, held_out):
        assert 0.92 < (gaps(params, held_out) > 0).mean() < 0.96

    def test_labels_follow_bradley_terry(self, params, train):
        gap = gaps(params, train)
        expected = 1 / (1 + np.exp(-np.abs(gap) / params.label_temperature))
        right = gap > 0
        for low, high in ((0, 0.15), (0.15, 0.4), (0.4, 5)):
            rows = (np.abs(gap) >= low) & (np.abs(gap) < high)
            assert right[rows].mean() == pytest.approx(expected[rows].mean(), abs=0.06)

    def test_high_temperature_makes_labels_chance(self, params):
        noisy = params.model_copy(update={"label_temperature": 100.0})
        assert 0.45 < (gaps(noisy, list(draw_pairs(noisy, "train"))) > 0).mean() < 0.55


class TestGoldReward:
    def test_spread_is_near_one(self, params, train):
        gold = gold_rewards(
            params, [p.prompt for p in train], [p.chosen for p in train]
        )
        assert 0.7 < gold.std() < 1.3

    def test_works_on_any_text(self, params):
        prompt = (Message("user", "What is it?"),)
        for text in ("", "???", "Nothing of this world, über 12 things.", "\n"):
            assert gold_reward(params, prompt, text) == 0
        assert gold_reward(params, (), "nothing") == 0

    def test_polite_words_fillers_and_repeats_do_not_count(self, params, train):
        for pair in islice(train, 50):
            plain = gold_reward(params, pair.prompt, pair.chosen)
            padded = f"Happy to help with that. Really {pair.chosen} {pair.chosen}"
            assert gold_reward(params, pair.prompt, padded) == pytest.approx(plain)

    def test_topic_of_the_prompt_counts(self, params, train):
        other = (Message("user", "no topic at all"),)
        differs = [
            gold_reward(params, pair.prompt, pair.chosen)
            > gold_reward(params, other, pair.chosen)
            for pair in islice(train, 200)
        ]
        assert 0.4 < np.mean(differs) < 1


def test_more_labels_help():
    """A linear model of the phrases, which no learner gets: the world has room."""
    params = WorldParams(pairs=2500, test_pairs=1000, phrases=400)
    train, held_out = (list(draw_pairs(params, part)) for part in ("train", "test"))
    names = sorted({phrase for pair in train for phrase in phrases_of(pair.chosen)})
    column = {name: place for place, name in enumerate(names)}

    def features(pairs):
        matrix = np.zeros((len(pairs), len(names)))
        for row, pair in enumerate(pairs):
            for sign, text in ((1, pair.chosen), (-1, pair.rejected)):
                for name in phrases_of(text):
                    if name in column:
                        matrix[row, column[name]] += sign
        return matrix

    inputs = features(held_out)
    few, many = (
        (inputs @ fit(features(train[:count])) > 0).mean() for count in (250, 2450)
    )
    assert few < 0.8
    assert many > 0.84


def phrases_of(text):
    clauses = text.replace(".", ",").split(",")
    plain = (
        [word for word in clause.split() if word not in FILLERS] for clause in clauses
    )
    return {" ".join(clause) for clause in plain if clause}


def fit(matrix, ridge=20.0):
    """Ridge regression of the constant 1 on signed counts: enough for a direction."""
    gram = matrix.T @ matrix + ridge * np.eye(matrix.shape[1])
    return np.linalg.solve(gram, matrix.sum(axis=0))


@pytest.mark.parametrize(
    "wrong",
    [
        {"pairs": 0},
        {"zipf_exponent": -1},
        {"label_temperature": 0},
        {"politeness": 1.5},
        {"phrases_per_response": (6, 4)},
        {"phrases": 20, "phrases_per_response": (2, 11)},
        {"colour": "red"},
    ],
)
def test_wrong_params_are_refused(wrong):
    with pytest.raises(ValidationError):
        WorldParams(**wrong)
