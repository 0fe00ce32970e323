from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ser_kedro.preferences.formats.table import (
    FORMATS,
    BadRow,
    DropReason,
    last_turn_only,
)
from ser_kedro.preferences.schema import Message, Pair
from ser_kedro.preferences.source import Dropped, PreferenceSource

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
needs_data = pytest.mark.skipif(
    not DATA.is_dir(), reason=f"no real preference data at {DATA}"
)

ASK = Message("user", "Why?")
HISTORY = (ASK, Message("assistant", "Because."), Message("user", "Really?"))
DIALOGUE = "\n\nHuman: Why?\n\nAssistant: Because.\n\nHuman: Really?\n\nAssistant:"


def message(role, content):
    return {"role": role, "content": content}


def parse(name, **record):
    answers, _ = FORMATS[name].read(record)
    return answers.labelled()


def reason(name, **record):
    with pytest.raises(BadRow) as caught:
        parse(name, **record)
    return caught.value.reason


USER = [message("user", "Why?")]
GOOD, BAD = [message("assistant", "g")], [message("assistant", "b")]


class TestPairs:
    @pytest.mark.parametrize(
        ("prompt", "chosen", "rejected"),
        [
            ("Why?", "g", "b"),
            ("\n\nHuman: Why?\n\nAssistant:", " g", " b"),
            ("Human: Why?\n\nAssistant: ", "g", "b"),
            (USER, GOOD, BAD),
            (USER, "g", "b"),
            ("Why?", GOOD, BAD),
            ("Why?", USER + GOOD, USER + BAD),
            (USER, USER + GOOD, USER + BAD),
            (None, USER + GOOD, USER + BAD),
            (
                None,
                "\n\nHuman: Why?\n\nAssistant: g",
                "\n\nHuman: Why?\n\nAssistant: b",
            ),
        ],
    )
    def test_all_shapes_mean_the_same(self, prompt, chosen, rejected):
        pair = parse("pairs", prompt=prompt, chosen=chosen, rejected=rejected)

        assert pair == Pair((ASK,), "g", "b")

    def test_dialogue_in_a_text_is_parsed_into_turns(self):
        pair = parse("pairs", prompt=DIALOGUE, chosen="g", rejected="b", source="s")

        assert pair == Pair(HISTORY, "g", "b", "s")

    def test_system_turn_is_kept(self):
        system = [message("system", "Be brief."), *USER]

        pair = parse("pairs", prompt=system, chosen=GOOD, rejected=BAD)

        assert [turn.role for turn in pair.prompt] == ["system", "user"]

    @pytest.mark.parametrize(
        ("record", "expected"),
        [
            ({"chosen": "g", "rejected": "b"}, "missing_keys"),
            ({"prompt": "Why?", "chosen": "g"}, "missing_keys"),
            ({"prompt": " ", "chosen": "g", "rejected": "b"}, "missing_keys"),
            ({"chosen": GOOD, "rejected": BAD}, "missing_keys"),
            ({"prompt": "Why?", "chosen": 1, "rejected": "b"}, "wrong_types"),
            ({"prompt": 3, "chosen": "g", "rejected": "b"}, "wrong_types"),
            ({"prompt": "Why?", "chosen": GOOD, "rejected": "b"}, "wrong_types"),
            ({"prompt": ["Why?"], "chosen": "g", "rejected": "b"}, "wrong_types"),
            ({"prompt": "Why?", "chosen": "g", "rejected": " "}, "empty_answer"),
            ({"prompt": "Why?", "chosen": "g", "rejected": "g "}, "identical_answers"),
            (
                {"chosen": USER + GOOD, "rejected": [message("user", "?")] + BAD},
                "histories_differ",
            ),
            ({"chosen": USER, "rejected": USER + BAD}, "last_turn_not_assistant"),
        ],
    )
    def test_bad_rows(self, record, expected):
        assert reason("pairs", **record) == expected


class TestHH:
    def test_history_and_answers(self):
        pair = parse("hh", chosen=DIALOGUE + " g", rejected=DIALOGUE + " b")

        assert pair == Pair(HISTORY, "g", "b")

    def test_answers_keep_their_paragraphs(self):
        pair = parse("hh", chosen=DIALOGUE + " g\n\nmore ", rejected=DIALOGUE + "  b")

        assert (pair.chosen, pair.rejected) == ("g\n\nmore ", "b")

    @pytest.mark.parametrize(
        ("chosen", "rejected", "expected"),
        [
            ("no dialogue", DIALOGUE + " b", "wrong_types"),
            (
                DIALOGUE + " g",
                DIALOGUE.replace("Why", "Who") + " b",
                "histories_differ",
            ),
            (DIALOGUE, DIALOGUE + " b", "empty_answer"),
            (DIALOGUE + " b", DIALOGUE + " b", "identical_answers"),
            (DIALOGUE + " g\n\nHuman: x", DIALOGUE + " b", "last_turn_not_assistant"),
        ],
    )
    def test_bad_rows(self, chosen, rejected, expected):
        assert reason("hh", chosen=chosen, rejected=rejected) == expected

    def test_single_turn_keeps_the_last_question(self):
        pair = parse("hh", chosen=DIALOGUE + " g", rejected=DIALOGUE + " b")

        cut = last_turn_only(pair)

        assert cut == Pair((Message("user", "Really?"),), "g", "b")
        assert cut.key == "Why?\nReally?"

    @needs_data
    def test_all_of_the_real_files_is_accounted_for(self):
        dropped: Counter[str] = Counter()
        pairs = {}
        for part in ("harmless", "helpful"):
            path = str(DATA / f"hh_rlhf_raw_{part}_base.jsonl.gz")
            for item in PreferenceSource(format="hh", path=path).pairs("train"):
                if isinstance(item, Dropped):
                    dropped[item.reason] += 1
                else:
                    pairs[item.pair_id] = (item.chosen, item.rejected)

        assert dropped == {
            "histories_differ": 14,
            "empty_answer": 8,
            "identical_answers": 2,
        }
        assert len(pairs) > 4600

    @needs_data
    def test_parsed_files_hold_the_same_pairs_as_the_raw_ones(self):
        def read(name, format):
            source = PreferenceSource(format=format, path=str(DATA / name))
            return {
                (item.prompt[-1].content.strip(), item.chosen.strip())
                for item in source.pairs("train")
                if not isinstance(item, Dropped)
            }

        raw = read("hh_rlhf_raw_harmless_base.jsonl.gz", "hh")
        raw |= read("hh_rlhf_raw_helpful_base.jsonl.gz", "hh")
        parsed = read("hh_rlhf_base_train.jsonl.gz", "pairs")
        parsed |= read("hh_rlhf_base_test.jsonl.gz", "pairs")

        assert raw == parsed


class TestSer:
    def test_response_j_is_preferred(self):
        pair = parse("ser", question="Why?", response_j="g", response_k="b")

        assert pair == Pair((ASK,), "g", "b")

    def test_missing_key_is_named(self):
        with pytest.raises(BadRow, match="no response_k; found: question, response_j"):
            parse("ser", question="Why?", response_j="g")


def answers(*scores, text="text", score="score"):
    return [{text: f"answer {n}", score: s} for n, s in enumerate(scores)]


class TestScored:
    @pytest.mark.parametrize("prompt", ["prompt", "instruction"])
    @pytest.mark.parametrize("several", ["responses", "completions", "answers"])
    @pytest.mark.parametrize("text", ["response", "text", "content"])
    @pytest.mark.parametrize("score", ["score", "overall_score", "rating"])
    def test_names_of_fields(self, prompt, several, text, score):
        record = {prompt: "Why?", several: answers(1, 2.5, text=text, score=score)}

        assert parse("scored", **record) == Pair((ASK,), "answer 1", "answer 0")

    @given(st.permutations(answers(5, 4, 4, 1, 0, 5)))
    def test_choice_does_not_depend_on_the_order(self, shuffled):
        first = parse("scored", prompt="Why?", answers=answers(5, 4, 4, 1, 0, 5))

        assert parse("scored", prompt="Why?", answers=shuffled) == first

    def test_every_lower_answer_has_its_turn(self):
        drawn = Counter(
            parse("scored", prompt=f"Why {n}?", answers=answers(5, 4, 3, 2)).rejected
            for n in range(600)
        )

        assert set(drawn) == {"answer 1", "answer 2", "answer 3"}
        assert min(drawn.values()) > 150

    def test_an_answer_as_good_as_the_best_is_never_rejected(self):
        pair = parse("scored", prompt="Why?", answers=answers(5, 5, 3))

        assert pair.rejected == "answer 2"

    @pytest.mark.parametrize("score", ["N/A", None, float("nan"), True])
    def test_answers_without_a_score(self, score):
        found = answers(1, 2, score)
        found[2]["score"] = score

        assert parse("scored", prompt="Why?", answers=found).chosen == "answer 1"

    @pytest.mark.parametrize(
        ("found", "expected"),
        [
            (answers(2, 2, 2), "tie"),
            (answers(2), "too_few_answers"),
            ([], "too_few_answers"),
            ([{"text": " ", "score": 1}, {"text": "a", "score": 2}], "too_few_answers"),
            (
                [{"text": "a", "score": 1}, {"text": "a", "score": 2}],
                "identical_answers",
            ),
            ([{"text": "a"}, {"text": "b"}], "no_preference"),
            ("text", "wrong_types"),
            ([1, 2], "wrong_types"),
            (["a", "b"], "no_preference"),
        ],
    )
    def test_bad_rows(self, found, expected):
        assert reason("scored", prompt="Why?", answers=found) == expected


class TestUpvoted:
    def test_votes(self):
        record = {
            "question": "Why?",
            "qid": 3,
            "answers": [
                {"text": "b", "pm_score": -1, "selected": False},
                {"text": "g", "pm_score": 4, "selected": True},
            ],
        }

        assert parse("upvoted", **record) == Pair((ASK,), "g", "b")

    def test_ties(self):
        found = answers(1, 1, score="pm_score")

        assert reason("upvoted", question="Why?", answers=found) == DropReason.tie
