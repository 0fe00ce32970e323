"""Pretraining on a prompt's own answers beside those of other prompts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ser_kedro.errors import DataError
from ser_kedro.launch.executor import run
from ser_kedro.launch.params import LauncherParams
from ser_kedro.preferences.schema import UNLABELED
from ser_kedro.self_evolution.voters import train_voters
from ser_kedro.store.json_io import read_json
from ser_kedro.store.layout import RESULT, finished
from ser_kedro.store.tables import read_table
from ser_kedro.training.own_answers import OwnAnswersJob, other_rows
from ser_kedro.training.params import RewardParams

TRAINING = {
    "learning_rate": 1e-2,
    "epochs": 1,
    "batch_size": 8,
    "scheduler": "constant",
    "max_length": 256,
    "score_tokens": 2048,
}


class TestOtherRows:
    @given(st.lists(st.integers(0, 5), min_size=2, max_size=40), st.integers(0, 99))
    def test_are_never_of_the_same_prompt(self, groups, seed):
        _, groups = np.unique(groups, return_inverse=True)
        if groups.max() == 0:
            return
        found = other_rows(groups, np.random.default_rng(seed))
        assert found.shape == (len(groups), 2)
        assert (groups[found] != groups[:, None]).all()

    def test_are_drawn_from_all_others_alike(self):
        groups = np.array([2, 0, 1, 0, 2, 2])
        rng = np.random.default_rng(0)
        drawn = np.stack([other_rows(groups, rng) for _ in range(3000)])
        for row, group in enumerate(groups):
            count = np.bincount(drawn[:, row].ravel(), minlength=6)
            others = groups != group
            assert count[others] / 6000 == pytest.approx(1 / others.sum(), abs=0.03)
            assert (count[~others] == 0).all()


class TestTheJob:
    @pytest.fixture
    def made(self, unlabeled):
        return run(OwnAnswersJob(pool=unlabeled, seed=0))

    def test_every_answer_is_once_the_own_one(self, made, unlabeled):
        rows = [row for name in made for row in read_table(made[name]).to_pylist()]
        pool = read_table(unlabeled).to_pylist()
        own = sorted((row["group"], row["chosen"]) for row in rows)
        sides = ("response_a", "response_b")
        assert own == sorted((row["group"], row[s]) for row in pool for s in sides)
        assert len({row["pair_id"] for row in rows}) == len(rows) == 96

    def test_the_other_one_is_of_another_prompt(self, made, unlabeled):
        pool = read_table(unlabeled).to_pylist()
        prompts = {row["group"]: row["prompt"] for row in pool}
        by_text = {}
        for row in pool:
            for side in ("response_a", "response_b"):
                by_text.setdefault(row[side], set()).add(row["group"])
        for name in made:
            for row in read_table(made[name]).to_pylist():
                assert row["prompt"] == prompts[row["group"]]
                assert by_text[row["rejected"]] - {row["group"]}

    def test_no_prompt_is_in_both_parts(self, made):
        one, two = (set(read_table(made[n])["group"].to_pylist()) for n in made)
        # A twentieth of 48.
        assert (len(one), len(two), one & two) == (46, 2, set())

    def test_another_seed_draws_others_of_another_name(self, made, unlabeled):
        """Features are looked up by the name of a pair."""
        again = run(OwnAnswersJob(pool=unlabeled, seed=1))
        texts = {}
        for tables in (made, again):
            for name in tables:
                for row in read_table(tables[name]).to_pylist():
                    both = row["chosen"], row["rejected"]
                    texts.setdefault(row["pair_id"], set()).add(frozenset(both))
        assert len(texts) > 150  # of 192 rows, some of which may be drawn twice
        assert all(len(both) == 1 for both in texts.values())

    def test_what_is_an_answer_to_both_tells_nothing(self, table, unlabeled):
        rows = read_table(unlabeled).to_pylist()[:3]
        same = [{**row, "response_a": "Yes.", "response_b": "No."} for row in rows]
        made = run(OwnAnswersJob(pool=table("same", same, UNLABELED), seed=0))
        found = [row for name in made for row in read_table(made[name]).to_pylist()]
        # The other prompt's answer of the other side: never the same text here.
        assert len(found) == 6
        alike = [{**row, "response_b": "Yes."} for row in same]
        made = run(OwnAnswersJob(pool=table("alike", alike, UNLABELED), seed=0))
        assert [made[name].rows for name in made] == [0, 0]

    @pytest.mark.parametrize("rows", [0, 3])
    def test_a_pool_of_one_prompt_is_refused(self, table, unlabeled, rows):
        pairs = read_table(unlabeled).to_pylist()[:rows]
        same = [{**row, "group": "one"} for row in pairs]
        with pytest.raises(DataError, match="^reward.pretrain: the pool is of one"):
            run(OwnAnswersJob(pool=table("one", same, UNLABELED), seed=0))


def test_goes_without_the_loss_of_a_language_model():
    with pytest.raises(ValidationError, match="pretrain=answers makes a reward model"):
        RewardParams(**TRAINING, lm_weight=0.01, pretrain="answers")


@pytest.mark.slow
class TestTrained:
    @pytest.fixture
    def train(self, sft_model, labeled, validation, unlabeled):
        def make(start=None, **changes):
            return train_voters(
                start=start or sft_model,
                pairs=(labeled,),
                validation=validation,
                params=RewardParams(**{**TRAINING, **changes}),
                seed=0,
                launcher=LauncherParams(),
                pool=unlabeled,
            )

        return make

    @staticmethod
    def trainings():
        """Of full trainings: rows and steps, in their order."""
        records = [read_json(folder / RESULT) for folder in finished("reward_model")]
        made = [record["outputs"]["model"]["metrics"] for record in records]
        return sorted((each["trained_pairs"], each["steps"]) for each in made)

    def test_comes_before_the_labels(self, train):
        plain = train()
        pretrained = train(pretrain="answers")
        assert pretrained.fingerprint != plain.fingerprint
        # 92 answers of 46 prompts, then 32 labels.
        assert self.trainings() == [(32, 4), (32, 4), (92, 12)]

    def test_once_for_all_loops_and_voters(self, train):
        train(pretrain="answers", voters=2)
        assert self.trainings() == [(32, 4), (32, 4), (92, 12)]

    def test_its_control_takes_as_many_steps_on_the_labels(self, train):
        train(pretrain="steps")
        assert self.trainings() == [(32, 4), (32, 12)]

    @pytest.mark.parametrize("trainable", ["head", "full"])
    def test_a_reward_model_to_go_on_from_is_not_pretrained_again(
        self, train, trainable
    ):
        first = train(pretrain="answers", trainable=trainable)
        before = len(list(finished("own_answers")))
        more = {"trainable": trainable, "epochs": 2}
        one, two = train(first, **more), train(first, pretrain="answers", **more)
        assert one.fingerprint == two.fingerprint
        assert len(list(finished("own_answers"))) == before == 1
