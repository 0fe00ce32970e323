"""Records as people have them, each with the pair that it must give."""

from __future__ import annotations

import pytest

from ser_kedro.errors import DataError
from ser_kedro.preferences.formats.recognise import recognise
from ser_kedro.preferences.formats.table import implied
from ser_kedro.preferences.records import BadRow
from ser_kedro.preferences.schema import Message, Pair

ASK = Message("user", "Why?")
SYSTEM = Message("system", "Be brief.")
PLAIN = Pair((ASK,), "g", "b")
USER = {"role": "user", "content": "Why?"}
GOOD = {"role": "assistant", "content": "g"}
BAD = {"role": "assistant", "content": "b"}
DIALOGUE = "\n\nHuman: Why?\n\nAssistant:"
CHATML = "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"


def found(record, several=1, **options):
    return recognise(
        [record] * several,
        options.get("format", "auto"),
        options.get("columns", {}),
        options.get("preference"),
        "place",
    )


def read(record, **options):
    answers, _ = found(record, **options).form.read(record)
    return answers.labelled()


def unused(record):
    return found(record).form.read(record)[1]


def reason(record, **options):
    with pytest.raises(BadRow) as caught:
        read(record, **options)
    return caught.value.reason.value


@pytest.mark.parametrize(
    ("name", "record"),
    {
        "plain": {"prompt": "Why?", "chosen": "g", "rejected": "b"},
        "question": {"question": "Why?", "chosen": "g", "rejected": "b"},
        "input": {"input": "Why?", "chosen": "g", "rejected": "b"},
        "instruction": {
            "instruction": "Why?",
            "input": "",
            "chosen": "g",
            "rejected": "b",
        },
        "argilla_columns": {
            "instruction": "Why?",
            "chosen_response": "g",
            "rejected_response": "b",
        },
        "one_message": {"prompt": "Why?", "chosen": GOOD, "rejected": BAD},
        "prompt_messages": {"prompt": [USER], "chosen": "g", "rejected": "b"},
        "parts": {
            "prompt": [{"role": "user", "content": [{"type": "text", "text": "Why?"}]}],
            "chosen": [{"role": "assistant", "content": [{"text": "g"}]}],
            "rejected": [{"role": "assistant", "content": "b"}],
        },
        "sharegpt": {
            "conversations": [{"from": "human", "value": "Why?"}],
            "chosen": {"from": "gpt", "value": "g"},
            "rejected": {"from": "gpt", "value": "b"},
        },
        "double_dialogue": {
            "prompt": DIALOGUE,
            "chosen": DIALOGUE + " g",
            "rejected": DIALOGUE + " b",
        },
        "double_messages": {
            "prompt": "Why?",
            "chosen": [USER, GOOD],
            "rejected": [USER, BAD],
        },
        "empty_prompt_dialogue": {
            "prompt": "",
            "chosen": DIALOGUE + " g",
            "rejected": DIALOGUE + " b",
        },
        "empty_prompt_messages": {
            "prompt": "",
            "chosen": [USER, GOOD],
            "rejected": [USER, BAD],
        },
        "chatml": {
            "prompt": CHATML,
            "chosen": "g<|im_end|>",
            "rejected": "b<|im_end|>\n",
        },
        "crlf": {
            "prompt": "\r\n\r\nHuman: Why?\r\n\r\nAssistant:",
            "chosen": " g",
            "rejected": " b",
        },
        "history_with_a_space": {
            "chosen": [USER, GOOD],
            "rejected": [{"role": "user", "content": "Why? "}, BAD],
        },
        "several_rejected": {"prompt": "Why?", "chosen": "g", "rejected": ["b", "b "]},
    }.items(),
)
def test_all_of_these_are_one_pair(name, record):
    recognised = found(record)

    assert (recognised.name, read(record)) == ("pairs", PLAIN), name


class TestPrompts:
    def test_system_column(self):
        record = {
            "system": "Be brief.",
            "prompt": "Why?",
            "chosen": "g",
            "rejected": "b",
        }

        assert read(record) == Pair((SYSTEM, ASK), "g", "b")

    def test_system_column_before_a_whole_dialogue(self):
        record = {
            "system": "Be brief.",
            "chosen": [USER, GOOD],
            "rejected": [USER, BAD],
        }

        assert read(record) == Pair((SYSTEM, ASK), "g", "b")

    def test_system_column_beside_a_system_turn(self):
        record = {
            "system": "First.",
            "prompt": [{"role": "system", "content": "Be brief."}, USER],
            "chosen": "g",
            "rejected": "b",
        }

        assert read(record).prompt[0] == Message("system", "First.\n\nBe brief.")

    def test_developer_is_system(self):
        record = {
            "prompt": [{"role": "developer", "content": "Be brief."}, USER],
            "chosen": [GOOD],
            "rejected": [BAD],
        }

        assert read(record) == Pair((SYSTEM, ASK), "g", "b")

    def test_input_is_added_to_the_instruction(self):
        record = {
            "instruction": "Improve.",
            "input": "A text.",
            "chosen": "g",
            "rejected": "b",
        }

        assert read(record).prompt == (Message("user", "Improve.\nA text."),)

    def test_history_comes_first(self):
        record = {
            "instruction": "Why?",
            "history": [["Hello", "Yes?"]],
            "chosen": "g",
            "rejected": "b",
        }

        assert read(record).prompt == (
            Message("user", "Hello"),
            Message("assistant", "Yes?"),
            ASK,
        )

    def test_answers_that_go_on_the_dialogue(self):
        record = {
            "prompt": [
                {"role": "user", "content": "Hello"},
                {"role": "assistant", "content": "Yes?"},
            ],
            "chosen": [USER, GOOD],
            "rejected": [USER, BAD],
        }

        pair = read(record)

        assert [turn.content for turn in pair.prompt] == ["Hello", "Yes?", "Why?"]
        assert pair.repairs == ("answers_go_on_the_dialogue",)

    @pytest.mark.parametrize(
        ("begun", "answer", "expected"),
        [("Sure,", "g", "Sure, g"), ("Sure, ", "g", "Sure, g"), ("f(", ")", "f()")],
    )
    def test_beginning_of_the_answer(self, begun, answer, expected):
        record = {
            "prompt": [USER, {"role": "assistant", "content": begun}],
            "chosen": answer,
            "rejected": "something else",
        }

        pair = read(record)

        assert (pair.prompt, pair.chosen) == ((ASK,), expected)
        assert pair.repairs == ("beginning_of_the_answer_joined",)

    def test_dialogues_that_repeat_the_prompt_behind_a_system_turn(self):
        system = {"role": "system", "content": "Be brief."}
        whole = {"chosen": [system, USER, GOOD], "rejected": [system, USER, BAD]}

        pair = read({"prompt": [USER], **whole})

        assert [turn.role for turn in pair.prompt] == ["system", "user"]
        assert (pair.chosen, pair.rejected) == (GOOD["content"], BAD["content"])

    def test_a_dialogue_that_is_not_the_prompts(self):
        record = {
            "prompt": "Who?",
            "chosen": [USER, GOOD],
            "rejected": [USER, BAD],
        }

        assert reason(record) == "prompt_differs"

    def test_tool_turns(self):
        record = {
            "prompt": [USER, {"role": "tool", "content": "1"}, USER],
            "chosen": "g",
            "rejected": "b",
        }

        assert reason(record) == "tool_turn"

    def test_pictures(self):
        picture = {"role": "user", "content": [{"type": "image"}, {"text": "Why?"}]}

        assert (
            reason({"prompt": [picture], "chosen": "g", "rejected": "b"}) == "not_text"
        )

    @pytest.mark.parametrize(
        "prompt",
        [[{"role": "user", "content": " "}], [{"role": "system", "content": "Why?"}]],
    )
    def test_nothing_was_asked(self, prompt):
        record = {"prompt": prompt, "chosen": [GOOD], "rejected": [BAD]}

        assert reason(record) in ("missing_keys", "last_turn_not_assistant")


class TestRepeatedPrompt:
    RECORD = {
        "prompt": "Say it: x.",
        "chosen": "Say it: x. g",
        "rejected": "Say it: x. b",
    }

    def test_is_taken_off_where_all_answers_have_it(self):
        pair = read(self.RECORD, several=5)

        assert (pair.chosen, pair.rejected) == ("g", "b")
        assert pair.repairs == ("prompt_taken_off_the_answer",)

    def test_is_left_where_some_answers_have_it(self):
        other = {"prompt": "Hi", "chosen": "Hello", "rejected": "What?"}
        form = recognise([self.RECORD, other], "auto", {}, None, "place").form

        assert form.read(self.RECORD)[0].labelled().chosen == "Say it: x. g"


class TestHalfSurrogates:
    def test_are_replaced(self):
        pair = read({"prompt": "Why?", "chosen": "g\ud83d", "rejected": "b"})

        assert pair.chosen == "g\N{REPLACEMENT CHARACTER}"
        assert pair.repairs == ("half_surrogate_pairs_replaced",)

    def test_what_is_whole_stays(self):
        pair = read({"prompt": "Why? 🚀\0", "chosen": "g", "rejected": "b"})

        assert (pair.prompt[0].content, pair.repairs) == ("Why? 🚀\0", ())


class TestTies:
    @pytest.mark.parametrize(
        "more",
        [
            {"score_chosen": 7.0, "score_rejected": 7.0},
            {"margin": 0.0},
            {"margin": -1},
            {"soft_label": 0.5},
        ],
    )
    def test_no_difference_is_a_tie(self, more):
        record = {"prompt": "Why?", "chosen": "g", "rejected": "b", **more}

        assert reason(record) == "tie"

    def test_margin_is_kept(self):
        record = {"prompt": "Why?", "chosen": "g", "rejected": "b"}

        assert read({**record, "margin": 3}).margin == 3
        assert read({**record, "score_chosen": 8, "score_rejected": 6.5}).margin == 1.5

    def test_soft_label(self):
        record = {"prompt": "Why?", "chosen": "g", "rejected": "b"}

        assert read({**record, "soft_label": 0.8}).probability == 0.8
        turned = read({**record, "soft_label": 0.25})
        assert (turned.chosen, turned.probability) == ("b", 0.75)


NAMED = {
    "helpsteer3": (
        {
            "context": [USER],
            "response1": "g",
            "response2": "b",
            "overall_preference": -3,
        },
        3,
    ),
    "pku_saferlhf": (
        {
            "prompt": "Why?",
            "response_0": "b",
            "response_1": "g",
            "better_response_id": 1,
            "safer_response_id": 0,
        },
        None,
    ),
    "shp": (
        {"history": "Why?", "human_ref_A": "b", "human_ref_B": "g", "labels": 0},
        None,
    ),
    "webgpt": (
        {
            "question": {"full_text": "Why?"},
            "answer_0": "g",
            "answer_1": "b",
            "score_0": 1.0,
            "score_1": -1.0,
        },
        2,
    ),
    "nectar": (
        {
            "prompt": DIALOGUE,
            "answers": [{"answer": "b", "rank": 2}, {"answer": "g", "rank": 1}],
        },
        None,
    ),
    "arena": (
        {
            "conversation_a": [USER, BAD],
            "conversation_b": [USER, GOOD],
            "winner": "model_b",
        },
        None,
    ),
    "judgebench": (
        {"question": "Why?", "response_A": "g", "response_B": "b", "label": "A>B"},
        None,
    ),
    "label_studio": (
        {
            "data": {"prompt": "Why?", "answer1": "g", "answer2": "b"},
            "annotations": [
                {"result": [{"type": "pairwise", "value": {"selected": "left"}}]}
            ],
        },
        None,
    ),
    "argilla": (
        {
            "fields": {"prompt": "Why?", "response1": "b", "response2": "g"},
            "responses": {"choice": [{"value": "response2", "user_id": "x"}]},
        },
        None,
    ),
    "ser": ({"question": "Why?", "response_j": "g", "response_k": "b"}, None),
    "upvoted": (
        {
            "question": "Why?",
            "answers": [{"text": "g", "pm_score": 4}, {"text": "b", "pm_score": 1}],
        },
        None,
    ),
    "compared": (
        {"prompt": "Why?", "response_a": "b", "response_b": "g", "preference": "b"},
        None,
    ),
    "scored": (
        {"instruction": "Why?", "generations": ["b", "g"], "ratings": [1, 5]},
        None,
    ),
}


@pytest.mark.parametrize("name", NAMED)
def test_known_data_sets(name):
    record, margin = NAMED[name]

    assert found(record).name == name
    assert read(record) == Pair((ASK,), "g", "b", margin=margin)


@pytest.mark.parametrize("names", [("answer_0", "answer_1"), ("answer_1", "answer_2")])
def test_answers_counted_from_0_or_from_1(names):
    record = {"prompt": "Why?", **dict(zip(names, "gb", strict=True)), "label": "a"}

    assert read(record) == PLAIN


def test_arena_with_lists_in_texts():
    record = {
        "prompt": '["Why?"]',
        "response_a": '["g"]',
        "response_b": '["b"]',
        "winner_model_a": 1,
        "winner_model_b": 0,
        "winner_tie": 0,
    }

    assert (found(record).name, read(record)) == ("arena", PLAIN)
    assert reason({**record, "winner_model_a": 0, "winner_tie": 1}) == "tie"


def test_annotations_of_several_people_are_a_soft_label():
    record, _ = NAMED["label_studio"]
    left, right = (
        record["annotations"] * 3,
        [{"result": [{"type": "pairwise", "value": {"selected": "right"}}]}],
    )

    pair = read({**record, "annotations": left + right})

    assert (pair.chosen, pair.probability) == ("g", 0.75)
    assert reason({**record, "annotations": right + left[:1]}) == "tie"
    assert reason({**record, "annotations": []}) == "no_preference"


@pytest.mark.parametrize(
    ("preference", "reading", "chosen"),
    [
        (0, "index", "A"),
        (1, "index", "B"),
        (1, "index_from_1", "A"),
        (2, "index_from_1", "B"),
        (1.5, "difference", "A"),
        (-2, "difference", "B"),
        (-2, "difference_b", "A"),
        (1, "is_a", "A"),
        (0, "is_a", "B"),
        (0.2, "probability", "B"),
        ("[[A]]", "index", "A"),
        ("model_b", "name", "B"),
        ("B>>A", "name", "B"),
        (["left", "left", "right"], "name", "A"),
    ],
)
def test_preferences(preference, reading, chosen):
    record = {
        "prompt": "Why?",
        "response_a": "A",
        "response_b": "B",
        "preference": preference,
    }

    assert read(record, preference=reading).chosen == chosen


@pytest.mark.parametrize(
    ("values", "reading"),
    [
        ([0, 1, 1], "index"),
        ([1, 2], "index_from_1"),
        ([-1, 2, 0], "difference"),
        ([0.2, 0.9], "probability"),
        (["A", "B"], "name"),
    ],
)
def test_meaning_of_a_preference_is_guessed_and_said(values, reading):
    records = [
        {"prompt": "Why?", "response_a": "A", "response_b": "B", "preference": value}
        for value in values
    ]

    recognised = recognise(records, "auto", {}, None, "place")

    assert recognised.form.style.preference == reading
    assert f"the preference is read as {reading}" in recognised.why


class TestColumns:
    RECORD = {"frage": "Why?", "gut": "g", "schlecht": "b", "system": "Be brief."}
    COLUMNS = {"prompt": "frage", "chosen": "gut", "rejected": "schlecht"}

    def test_are_mapped(self):
        assert read(self.RECORD, columns=self.COLUMNS) == Pair((SYSTEM, ASK), "g", "b")

    def test_go_into_objects(self):
        columns = {"prompt": "q.text", "response_a": "a", "response_b": "b"}
        record = {"q": {"text": "Why?"}, "a": "g", "b": "b", "preference": "A"}

        assert read(record, columns=columns) == PLAIN

    def test_that_are_not_there(self):
        with pytest.raises(
            DataError, match=r"prompt: no column frag, did you mean frage"
        ):
            found(self.RECORD, columns={**self.COLUMNS, "prompt": "frag"})

    def test_nothing_known(self):
        with pytest.raises(DataError, match="its columns are frage, gut, schlecht"):
            found(self.RECORD)

    def test_unused_text_is_named(self):
        record = {"prompt": "Why?", "chosen": "g", "rejected": "b"}
        more = {"instruction": "x", "notes": "y", "id": 3, "empty": " ", "list": ["z"]}

        assert unused({**record, **more}) == ["instruction", "notes", "list"]

    def test_other_columns_of_a_format_that_is_recognised(self):
        record, _ = NAMED["pku_saferlhf"]
        safer = {"preference": "safer_response_id"}

        assert read(record, format="pku_saferlhf", columns=safer).chosen == "b"
        renamed = {"prompt": "frage"}
        record = {"frage": "Why?", "chosen": "g", "rejected": "b"}
        assert (found(record, columns=renamed).name, read(record, columns=renamed)) == (
            "pairs",
            PLAIN,
        )

    @pytest.mark.parametrize(
        ("columns", "name"),
        [
            ({"rejected": "x"}, "pairs"),
            ({"prompt": "q", "response_a": "x"}, "compared"),
            ({"responses": "x"}, "scored"),
            ({"score": "x"}, "rated"),
            ({"prompt": "x", "source": "y"}, None),
            ({}, None),
        ],
    )
    def test_columns_may_imply_a_format(self, columns, name):
        assert implied(columns) == name
