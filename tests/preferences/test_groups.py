import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ser_kedro.preferences.groups import (
    SHINGLE,
    group_prompts,
    normalize,
)
from ser_kedro.preferences.schema import Message, prompt_key

LONG = (
    "Please explain to me, step by step, how a sailing boat can move against the wind"
    " although the wind pushes it back"
)


def partition(keys, threshold=0.8):
    """The grouping as a set of sets of texts: what must not depend on the order."""
    groups = {}
    for key, number in zip(keys, group_prompts(keys, threshold), strict=True):
        groups.setdefault(int(number), set()).add(key)
    return {frozenset(group) for group in groups.values()}


def jaccard(one, other):
    def shingles(text):
        text = normalize(text)
        return {text[i : i + SHINGLE] for i in range(max(1, len(text) - SHINGLE + 1))}

    left, right = shingles(one), shingles(other)
    return len(left & right) / len(left | right)


class TestKey:
    def test_first_user_turn(self):
        prompt = [
            Message("system", "be kind"),
            Message("user", "first"),
            Message("assistant", "answer"),
            Message("user", "second"),
        ]
        assert prompt_key(prompt) == "first"

    def test_no_user_turn(self):
        assert prompt_key([Message("system", "only")]) == "only"
        assert prompt_key([]) == ""

    def test_normalize(self):
        assert normalize("  Hello,\n\tWORLD!! ") == "hello world"
        assert normalize("???") != normalize("!!")


class TestGroups:
    def test_copies_share_a_group(self):
        numbers = group_prompts(["Hello, world", "other", "hello   WORLD!", "hello"])
        assert numbers.tolist() == [0, 1, 0, 2]
        assert numbers.dtype == np.int64

    def test_near_copies_share_a_group(self):
        near, far = f"{LONG}?!x", "How does a sailing boat move?"
        assert jaccard(LONG, near) >= 0.8 > jaccard(LONG, far)
        assert group_prompts([LONG, far, near]).tolist() == [0, 1, 0]

    def test_chains_are_one_group(self):
        chain = [LONG[start : start + 90] for start in (0, 6, 12)]
        assert jaccard(chain[0], chain[2]) < 0.8 <= jaccard(chain[0], chain[1])
        assert set(group_prompts(chain).tolist()) == {0}

    def test_threshold(self):
        near = LONG.replace("sailing", "rowing")
        assert 0.6 < jaccard(LONG, near) < 0.95
        assert len(set(group_prompts([LONG, near], 1.0))) == 2
        assert len(set(group_prompts([LONG, near], 0.6))) == 1

    @pytest.mark.parametrize("threshold", [0, -1, 1.1])
    def test_threshold_out_of_range(self, threshold):
        with pytest.raises(ValueError, match="threshold"):
            group_prompts(["a"], threshold)

    def test_no_rows(self):
        assert group_prompts([]).shape == (0,)

    def test_short_prompts(self):
        numbers = group_prompts(["", "a", "A!", "b", "?", "ab", " "])
        assert numbers.tolist() == [0, 1, 1, 2, 3, 4, 0]

    @settings(deadline=None, max_examples=50)
    @given(st.data())
    def test_order_of_rows_does_not_matter(self, data):
        word = st.sampled_from(["boat", "wind", "Wind", "sail", "é", "?", ","])
        text = st.lists(word, max_size=12).map(" ".join)
        keys = data.draw(st.lists(text, max_size=30))
        mixed = data.draw(st.permutations(keys))
        assert partition(keys, 0.6) == partition(mixed, 0.6)

    @settings(deadline=None, max_examples=30)
    @given(st.lists(st.text("abc ", min_size=8, max_size=30), max_size=12))
    def test_groups_are_joined_by_near_copies_alone(self, keys):
        numbers = group_prompts(keys)
        for number in set(numbers.tolist()):
            members = [k for k, n in zip(keys, numbers, strict=True) if n == number]
            for member in members:
                rest = [other for other in members if other is not member]
                assert not rest or max(jaccard(member, r) for r in rest) >= 0.8

    def test_few_near_copies_are_missed(self):
        rng = np.random.default_rng(0)
        words = [f"{a}{b}{c}" for a in "bdfgk" for b in "aeiou" for c in "lmnrst"]
        texts = [" ".join(rng.choice(words, 15)) for _ in range(200)]
        copies = [text[:-1] + "zq" for text in texts]
        numbers = group_prompts(texts + copies)
        assert (numbers[:200] == numbers[200:]).mean() > 0.98
