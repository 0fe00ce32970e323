import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ser_kedro.errors import DataError
from ser_kedro.preferences.keyed import chosen_first, keyed_hash, shuffled
from ser_kedro.preferences.schema import Message, Pair
from ser_kedro.preferences.split import (
    IN_TEST_SET,
    PARTS,
    SplitParams,
    assign,
    check_enough,
)

PARAMS = SplitParams(validation="holdout")


def keys(count, seed=0):
    rng = np.random.default_rng(seed)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz "))
    return ["".join(rng.choice(letters, 40)) for _ in range(count)]


def few(count):
    return assign(keys(count), params=PARAMS, seed=0)


def sizes(assignment):
    return {part: len(assignment.rows(part)) for part in PARTS}


def shares(assignment, total):
    return {part: len(assignment.rows(part)) / total for part in PARTS}


class TestParams:
    @pytest.mark.parametrize(
        "wrong",
        [
            {"sft_share": 0.5},
            {"labeled_share": 0},
            {"labeled_share": 1},
            {"validation_share": 1.2},
            {"near_copy_threshold": 0},
            {"max_bad_rows": -0.1},
            {"labelled_share": 0.1},
        ],
    )
    def test_wrong_params_are_refused(self, wrong):
        with pytest.raises(ValidationError):
            SplitParams(**wrong)

    def test_sum_is_named(self):
        with pytest.raises(ValidationError, match="1.2: must be 1"):
            SplitParams(sft_share=0.5)


class TestAssign:
    def test_shares_with_a_test_set(self):
        found = shares(assign(keys(4000), params=PARAMS, seed=0, test_keys=[]), 4000)
        assert found["test"] == 0
        assert found["sft"] == pytest.approx(0.3, abs=0.002)
        assert found["labeled"] == pytest.approx(0.65 * 0.15 * 0.6, abs=0.002)
        assert found["validation"] == pytest.approx(0.65 * 0.15 * 0.4, abs=0.002)
        assert found["unlabeled"] == pytest.approx(0.65 * 0.85, abs=0.002)
        assert found["ppo"] == pytest.approx(0.05, abs=0.002)

    def test_shares_without_a_test_set(self):
        found = shares(assign(keys(4000), params=PARAMS, seed=0), 4000)
        assert found["test"] == pytest.approx(0.1, abs=0.002)
        assert found["sft"] == pytest.approx(0.27, abs=0.002)
        assert found["unlabeled"] == pytest.approx(0.9 * 0.65 * 0.85, abs=0.002)

    def test_shares_count_rows_and_not_prompts(self):
        texts = [key for place, key in enumerate(keys(1500)) for _ in range(place % 7)]
        found = shares(assign(texts, params=PARAMS, seed=3), len(texts))
        assert found["sft"] == pytest.approx(0.27, abs=0.01)
        assert found["ppo"] == pytest.approx(0.045, abs=0.01)

    @settings(deadline=None, max_examples=25)
    @given(st.data())
    def test_order_of_rows_does_not_matter(self, data):
        texts = [
            k for k, n in zip(keys(40), range(40), strict=True) for _ in "ab"[n % 2 :]
        ]
        order = data.draw(st.permutations(range(len(texts))))
        plain = assign(texts, params=PARAMS, seed=1)
        mixed = assign([texts[i] for i in order], params=PARAMS, seed=1)
        assert mixed.parts.tolist() == plain.parts[order].tolist()
        assert mixed.groups == [plain.groups[i] for i in order]

    def test_seed_changes_the_parts_but_not_the_groups(self):
        one, other = (assign(keys(300), params=PARAMS, seed=seed) for seed in (0, 1))
        assert (one.parts != other.parts).any()
        assert one.groups == other.groups

    def test_no_group_is_on_two_sides(self):
        texts = keys(300)
        near = [f"{text}!" for text in texts] + [f"{text}x" for text in texts]
        found = assign(texts + near, params=PARAMS, seed=0)
        sides = {}
        for group, part in zip(found.groups, found.parts, strict=True):
            sides.setdefault(group, set()).add(int(part))
        assert {len(parts) for parts in sides.values()} == {1}
        assert found.distinct_prompts == 600
        assert found.prompt_groups == 300

    def test_training_rows_of_the_test_set_are_out(self):
        texts = keys(100)
        test = [texts[3].upper(), texts[7] + "x", "quite another question"]
        found = assign(texts, params=PARAMS, seed=0, test_keys=test)
        assert np.flatnonzero(found.parts == IN_TEST_SET).tolist() == [3, 7]
        assert found.test_groups[:2] == [found.groups[3], found.groups[7]]


class TestOnePromptWithManyPairs:
    """A prompt with more than a fifth of the rows is split by pair."""

    def split(self, prompts, **options):
        ids = [f"{n:04x}" for n in range(len(prompts))]
        return assign(prompts, params=PARAMS, seed=0, pair_ids=ids, **options)

    def test_only_prompt(self):
        found = self.split(["Say something nice."] * 120)
        check_enough(sizes(found), found)
        assert sizes(found)["sft"] == pytest.approx(0.27 * 120, abs=1)
        assert len(set(found.groups)) == 1
        assert found.split_by_pair == (("Say something nice.", 120),)

    def test_three_prompts(self):
        prompts = ["Say something nice.", "Write about rain.", "Name a bird."]
        found = self.split(prompts * 120)
        check_enough(sizes(found), found)
        assert {each.rows for each in found.split_by_pair} == {120}
        assert {each.prompt for each in found.split_by_pair} == set(prompts)

    def test_smaller_ones_where_a_part_would_be_empty(self):
        found = self.split(keys(10) * 100)
        check_enough(sizes(found), found)
        assert len(found.split_by_pair) == 10

    def test_a_fifth_is_not_split(self):
        found = self.split(keys(160) + ["Name a bird."] * 40)
        assert found.split_by_pair == ()
        ours = found.parts[160:]
        assert len(set(ours.tolist())) == 1

    def test_other_prompts_stay_whole(self):
        found = self.split(["Name a bird."] * 100 + keys(100) * 3)
        assert [each.rows for each in found.split_by_pair] == [100]
        assert len(set(found.parts[:100].tolist())) == 6
        for place in range(100):
            assert len({int(p) for p in found.parts[100 + place :: 100]}) == 1

    def test_keyed_on_the_pair(self):
        prompts = ["Name a bird."] * 60 + keys(60)
        ids = [f"{n:04x}" for n in range(120)]
        order = np.random.default_rng(0).permutation(120)
        plain = assign(prompts, params=PARAMS, seed=0, pair_ids=ids)
        mixed = assign(
            [prompts[i] for i in order],
            params=PARAMS,
            seed=0,
            pair_ids=[ids[i] for i in order],
        )
        assert mixed.parts.tolist() == plain.parts[order].tolist()
        assert mixed.split_by_pair == plain.split_by_pair

    def test_given_test_set_excludes_it_all_the_same(self):
        found = self.split(["Name a bird."] * 60 + keys(60), test_keys=["name a bird"])
        assert (found.parts[:60] == IN_TEST_SET).all()
        assert found.split_by_pair == ()
        assert found.largest.rows == 1

    def test_is_logged(self, caplog):
        self.split(["Name a bird."] * 60)
        assert "'Name a bird.' has 60 pairs" in caplog.text
        assert "on several sides" in caplog.text


class TestLargestGroup:
    def test_is_logged_with_examples_and_the_parameter(self, caplog):
        text = "a rather long question about wind and sails, " * 3
        found = assign(
            [f"{text} {a}" for a in "abcdef"] + keys(20), params=PARAMS, seed=0
        )
        assert (found.largest.rows, found.largest.prompts) == (6, 6)
        assert "holds 23%" in caplog.text and " c'" in caplog.text
        assert "data_split.near_copy_threshold" in caplog.text

    def test_nothing_is_logged_of_ordinary_data(self, caplog):
        assign(keys(100), params=PARAMS, seed=0)
        assert not caplog.text

    def test_shared_preamble_is_split_as_if_it_were_not_there(self):
        preamble = "Answer politely, name the part and give the steps in order. " * 6
        found = assign([preamble + key for key in keys(120)], params=PARAMS, seed=0)
        check_enough(sizes(found), found)
        assert found.prompt_groups == 120


class TestEnough:
    def test_empty_part_is_named(self):
        with pytest.raises(
            DataError, match="12 usable pairs.*left for validation, ppo"
        ):
            check_enough({"sft": 12, "validation": 0, "ppo": 0}, few(12))

    def test_enough(self):
        check_enough({"sft": 1, "ppo": 1}, few(2))

    def test_all_prompts_are_in_the_test_set(self):
        found = assign(keys(20), params=PARAMS, seed=0, test_keys=keys(20))
        with pytest.raises(DataError, match="all 20 training pairs.*in the test set"):
            check_enough(sizes(found), found)

    def test_most_prompts_are_in_the_test_set(self):
        found = assign(keys(20), params=PARAMS, seed=0, test_keys=keys(18))
        with pytest.raises(DataError, match="2 usable pairs.*18 more have prompts of"):
            check_enough(sizes(found), found)

    def test_one_group_holds_nearly_everything(self):
        text = "a rather long question about wind and sails, " * 3
        found = assign([f"{text} {a}" for a in "abcdefgh"], params=PARAMS, seed=0)
        with pytest.raises(DataError) as error:
            check_enough(sizes(found), found)
        message = str(error.value)
        assert "100%" in message and "8 prompts" in message and " a'" in message
        assert "data_split.near_copy_threshold" in message


class TestRandomChoices:
    def test_keyed_hash_is_fixed(self):
        # Tables of older runs are found again only as long as this does not change.
        assert keyed_hash(0, "order", "x") == keyed_hash(0, "order", "x")
        assert len({keyed_hash(s, t, "x") for s in (0, 1) for t in ("a", "b")}) == 4

    @given(st.lists(st.text(max_size=5), unique=True), st.randoms())
    def test_order_within_a_table(self, ids, random):
        mixed = random.sample(ids, len(ids))
        one = [ids[i] for i in shuffled(ids, seed=0, table="t")]
        assert one == [mixed[i] for i in shuffled(mixed, seed=0, table="t")]

    def test_each_table_has_its_own_order(self):
        ids = keys(50)
        one, other = (shuffled(ids, seed=0, table=table) for table in ("a", "b"))
        assert one.tolist() != other.tolist()

    def test_responses_are_swapped_half_of_the_time(self):
        pairs = [Pair((Message("user", key),), key, f"{key}x") for key in keys(2000)]
        first = [chosen_first(p.pair_id, p.chosen, p.rejected, seed=0) for p in pairs]
        assert 0.46 < np.mean(first) < 0.54

    @given(st.text(), st.text(), st.integers(0, 99))
    def test_order_of_responses_does_not_know_the_label(self, one, other, seed):
        if one == other:
            return
        prompt = (Message("user", "q"),)
        pair, flipped = Pair(prompt, one, other), Pair(prompt, other, one)
        assert pair.pair_id == flipped.pair_id
        first = [
            p.chosen
            if chosen_first(p.pair_id, p.chosen, p.rejected, seed=seed)
            else p.rejected
            for p in (pair, flipped)
        ]
        assert first[0] == first[1]


def test_under_crossfit_no_label_is_held_out():
    keys = [f"prompt {n}" for n in range(400)]
    whole = assign(keys, params=SplitParams(validation="crossfit"), seed=0)
    part = assign(keys, params=PARAMS, seed=0)

    assert len(whole.rows("validation")) == 0
    both = sorted([*part.rows("labeled"), *part.rows("validation")])
    assert sorted(whole.rows("labeled")) == both
    for other in ("sft", "unlabeled", "ppo"):
        np.testing.assert_array_equal(whole.rows(other), part.rows(other))
