import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ser_kedro.errors import DataError
from ser_kedro.preferences.schema import Message, Pair
from ser_kedro.preferences.split import (
    IN_TEST_SET,
    PARTS,
    SplitParams,
    assign,
    check_enough,
    chosen_first,
    keyed_hash,
    shuffled,
)

PARAMS = SplitParams()


def keys(count, seed=0):
    rng = np.random.default_rng(seed)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz "))
    return ["".join(rng.choice(letters, 40)) for _ in range(count)]


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


class TestEnough:
    def test_empty_part_is_named(self):
        with pytest.raises(
            DataError, match="12 usable pairs.*left for validation, ppo"
        ):
            check_enough({"sft": 12, "validation": 0, "ppo": 0})

    def test_enough(self):
        check_enough({"sft": 1, "ppo": 1})


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
