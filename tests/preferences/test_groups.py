import hashlib
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ser_kedro.preferences import groups, shingles
from ser_kedro.preferences.demo_world.world import WorldParams, draw_pairs
from ser_kedro.preferences.groups import (
    REACH,
    SHINGLE,
    group_prompts,
    largest_group,
    normalize,
)
from ser_kedro.preferences.schema import Message, prompt_key

LONG = (
    "Please explain to me, step by step, how a sailing boat can move against the wind"
    " although the wind pushes it back"
)

THINGS = [f"{a}{b}{c}" for a in "bdfgk" for b in "aeiou" for c in "lmnrst"]
PREAMBLE = (
    "You are the support desk of a shop for household goods. Answer politely, name the"
    " part, give the steps in order, do not promise refunds, and end with a question"
    " that shows you care about the outcome. Customer says:"
)


def sentences(count, words=9, seed=0):
    """Different sentences that have nothing in common."""
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(THINGS, words)) for _ in range(count)]


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
            Message("user", "How do I clean a ladder?"),
            Message("assistant", "answer"),
            Message("user", "And a lamp?"),
        ]
        assert prompt_key(prompt) == "How do I clean a ladder?"

    def test_greeting_is_followed_by_the_question(self):
        asked = [Message("user", "How do I clean a ladder?"), Message("user", "Why?")]
        prompt = [Message("user", "Hi!!!"), Message("assistant", "Hello!"), *asked]
        assert prompt_key(prompt) == "Hi!!!\nHow do I clean a ladder?"
        assert prompt_key(prompt[:1]) == "Hi!!!"

    def test_no_user_turn(self):
        assert prompt_key([Message("system", "only")]) == "only"
        assert prompt_key([]) == ""

    def test_normalize(self):
        assert normalize("  Hello,\n\tWORLD!! ") == "hello world"
        assert normalize("???") != normalize("!!")

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("5+3", "5-3"),
            ("5 + 3", "5 - 3"),
            ("-5", "5"),
            ("5*3", "5/3"),
            ("x = 3", "x < 3"),
            ("C++", "C#"),
            ("C++", "C"),
            ("3.5", "35"),
            ("3.5", "3 5"),
            ("$5", "5"),
            ("$5", "€5"),
            ("10:30", "10 30"),
            ("5%", "5"),
            ("2^3", "2 3"),
            ("a@b", "a b"),
            ("I am 😀", "I am 😡"),
            ("कि", "की"),  # Hindi
            ("கி", "கு"),  # Tamil
            ("كَتَبَ", "كُتِبَ"),  # Arabic
            ("ดี", "ดู"),  # Thai
        ],
    )
    def test_other_meanings_stay_apart(self, one, other):
        assert normalize(one) != normalize(other)

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("What is  5+3?", "what is 5 + 3"),
            ("Hello, world.", "hello world"),
            ("«Hello» (world): yes…", "hello world yes"),
            ("well-known – fact", "well known fact"),
            ("COVID-19", "covid 19"),
            ("It costs 5.", "it costs 5"),
            ("A: 5, B: 6", "a 5 b 6"),
            ("“It’s”", "'it's'"),
            ("ＡＢＣ！", "abc"),
            ("5−3", "5–3"),
            ("soft\u00adhyphen", "softhyphen"),
            ("Grüße", "GRÜSSE"),
            ("é", "e\u0301"),
            ("你好。", "你好"),
        ],
    )
    def test_same_meaning_is_merged(self, one, other):
        assert normalize(one) == normalize(other)

    @given(st.text())
    def test_half_of_a_surrogate_pair_is_no_error(self, text):
        assert group_prompts([text + "\ud800", text]).shape == (2,)

    @given(st.text())
    def test_case_and_space_do_not_matter(self, text):
        assert normalize(f"  {text}\n") == normalize(text)


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

    def test_long_chains_are_cut(self):
        text = " ".join(sentences(1, 60))
        chain = [text[start : start + 130] for start in range(0, 110, 12)]
        assert jaccard(chain[0], chain[1]) >= 0.8 > 0.2 > jaccard(chain[0], chain[-1])
        numbers = group_prompts(chain)
        assert 2 <= len(set(numbers.tolist())) <= 5
        for number in set(numbers.tolist()):
            members = [k for k, n in zip(chain, numbers, strict=True) if n == number]
            near = [min(jaccard(one, other) for other in members) for one in members]
            assert max(near) >= REACH * 0.8

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

    def test_growth_is_near_linear(self, monkeypatch):
        compared = []
        original = groups._candidates

        def counted(*args):
            found = original(*args)
            compared.append(len(found))
            return found

        monkeypatch.setattr(groups, "_candidates", counted)
        monkeypatch.setattr(shingles, "STRETCHES", ())
        # All have the same two shingles, so they share every bucket.
        assert set(group_prompts(["ha" * n for n in range(3, 900)]).tolist()) == {0}
        bands = len(compared)
        assert sum(compared) <= 16 * bands * 900


class TestSharedText:
    def test_preamble_does_not_join(self):
        asked = sentences(300)
        numbers = group_prompts([f"{PREAMBLE} {text}" for text in asked])
        assert len(set(numbers.tolist())) == 300

    @pytest.mark.parametrize("count", [12, 60, 120])
    def test_short_questions_after_a_preamble(self, count):
        asks = ("How do I clean a {}?", "Write a poem on an old {}.", "Is a {} cheap?")
        asked = [ask.format(thing) for ask in asks for thing in sentences(40, 4)]
        asked = asked[:: 120 // count]
        numbers = group_prompts([f"{PREAMBLE} {text}" for text in asked])
        assert len(set(numbers.tolist())) == count

    def test_text_around_and_several_templates(self):
        templates = [
            f"{a} :: {{}} :: {b}" for a, b in zip(*[iter(sentences(20, 18))] * 2)
        ]
        keys = [
            templates[n % 10].format(t) for n, t in enumerate(sentences(600, seed=1))
        ]
        assert len(set(group_prompts(keys).tolist())) == 600

    def test_near_copies_after_a_preamble_are_found(self):
        asked = sentences(400, 14)
        asked += [text[:-2] + "zq" for text in asked[:100]]
        asked += [text.upper().replace(" ", "  ") + "?!" for text in asked[100:200]]
        numbers = group_prompts([f"{PREAMBLE} {text}" for text in asked])
        assert (numbers[:100] == numbers[400:500]).mean() > 0.97
        assert (numbers[100:200] == numbers[500:]).all()
        assert len(set(numbers[:400].tolist())) == 400

    def test_typo_in_the_preamble_does_not_separate(self):
        asked = [f"{PREAMBLE} {text}" for text in sentences(200, 14)]
        asked.append(asked[7].replace("politely", "politly"))
        numbers = group_prompts(asked)
        assert numbers[7] == numbers[200]

    def test_preamble_alone_is_its_own(self):
        keys = [f"{PREAMBLE} {text}" for text in sentences(100)]
        keys += [
            PREAMBLE,
            PREAMBLE.upper(),
            PREAMBLE[:-10],
            "hello",
            "hello!",
            "hello x",
        ]
        numbers = group_prompts(keys)
        assert numbers[100] == numbers[101] and numbers[103] == numbers[104]
        assert len(set(numbers.tolist())) == 104

    def test_few_prompts(self):
        keys = [*sentences(19, 12), sentences(19, 12)[4][:-2] + "zq"]
        assert group_prompts(keys).tolist() == [*range(19), 4]

    @settings(deadline=None, max_examples=10)
    @given(st.randoms(use_true_random=False))
    def test_order_of_rows_does_not_matter(self, random):
        keys = [f"{PREAMBLE} {text}" for text in sentences(60, 12)]
        keys += [key[:-2] + "zq" for key in keys[:20]] + keys[:5]
        mixed = random.sample(keys, len(keys))
        assert partition(keys) == partition(mixed)

    def test_lists_are_grouped_together(self):
        one, other = sentences(50), sentences(50, seed=5)
        numbers = group_prompts([*one, *other, *(key.upper() for key in one)])
        assert numbers.tolist() == [*range(100), *range(50)]


class TestDemo:
    def test_groups_are_those_of_the_published_results(self):
        world = WorldParams()
        pairs = [pair for part in ("train", "test") for pair in draw_pairs(world, part)]
        pairs.sort(key=lambda pair: pair.pair_id)
        keys = [prompt_key(pair.prompt) for pair in pairs]
        assert {re.sub(r"\W+", " ", key).strip().lower() for key in keys} == set(
            map(normalize, keys)
        )
        smallest = {}
        numbers = group_prompts(keys).tolist()
        for number, key in zip(numbers, keys, strict=True):
            text = normalize(key)
            smallest[number] = min(text, smallest.get(number, text))
        named = "\n".join(smallest[number] for number in numbers)
        # Written down before the grouping was made near-linear.
        assert hashlib.sha256(named.encode()).hexdigest()[:16] == "75e614c795984e27"
        assert len(smallest) == 7593


class TestLargest:
    def test_rows_share_and_examples(self):
        keys = ["b b", "a", "a!", "c", "A"]
        largest = largest_group(group_prompts(keys), keys)
        assert (largest.rows, largest.share, largest.prompts) == (3, 0.6, 1)
        assert largest.examples == ("A",)

    def test_long_examples_show_where_they_differ(self):
        keys = [f"{LONG} {LONG} {end}" for end in "abcd"]
        largest = largest_group(np.zeros(4, np.int64), keys)
        assert len(largest.examples) == 3 and largest.prompts == 4
        assert all(len(text) == 37 + 5 + 37 for text in largest.examples)
        assert all(text.startswith(f"{LONG} {LONG}"[:37]) for text in largest.examples)
        assert [text[-1] for text in largest.examples] == ["a", "b", "c"]
        assert "near_copy_threshold" in str(largest)

    def test_no_rows(self):
        assert largest_group(np.empty(0, np.int64), []).rows == 0
