"""Questions, leases and answers, by hand and by random sessions."""

import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ser_kedro.labelling.desk import DISTANCE, LEASE, Desk, Refused, plan
from ser_kedro.labelling.journal import Journal
from tests.labelling.conftest import request_row


def give(desk, window="w", choice="first"):
    question = desk.next(window)
    return question, desk.answer(window, question.key, choice, 3.0, "ann")


class TestPlan:
    def test_in_the_order_of_the_requests(self, rows):
        asked = plan(rows, seed=0, repeat_share=0.0)
        assert [each.request for each in asked] == rows

    def test_the_order_of_the_responses_is_drawn_for_each_pair(self, rows):
        swapped = [q.swapped for q in plan(rows, seed=0, repeat_share=0.0)]
        moved = plan(rows[::-1], seed=0, repeat_share=0.0)
        assert 15 < sum(swapped) < 45
        assert [q.swapped for q in moved] == swapped[::-1]
        assert [q.swapped for q in plan(rows, seed=1, repeat_share=0.0)] != swapped

    def test_a_share_is_repeated_later_in_the_other_order(self, rows):
        asked = plan(rows, seed=0, repeat_share=0.25)
        place = {question.key: n for n, question in enumerate(asked)}
        repeats = [question for question in asked if question.repeat]
        assert len(repeats) == 15
        for again in repeats:
            first = asked[place[again.key[0], False]]
            assert again.swapped is not first.swapped
            left = len(asked) - 1 - place[first.key]
            apart = place[again.key] - place[first.key]
            assert apart > min(DISTANCE - 1, left - len(repeats))

    def test_a_window_is_not_told_what_the_model_thinks(self, rows):
        (question, *_) = plan(rows, seed=0, repeat_share=0.0)
        assert set(question.shown) == {"pair_id", "repeat", "prompt", "responses"}


class TestDesk:
    def test_two_windows_never_show_one_pair(self, open_desk):
        desk = open_desk()
        shown = {desk.next(window).key for window in ("one", "two", "three")}
        assert len(shown) == 3

    def test_a_window_that_is_closed_gives_its_pair_back(self, open_desk):
        desk = open_desk()
        first = desk.next("one")
        desk.release("one")
        assert desk.next("two") == first

    def test_a_lease_runs_out(self, open_desk, clock):
        desk = open_desk()
        first = desk.next("one")
        clock.now += LEASE - 1
        assert desk.next("two") != first
        clock.now += 2
        assert desk.next("three") == first
        with pytest.raises(Refused, match="open in another window"):
            desk.answer("one", first.key, "first", 1.0, "ann")

    def test_a_slow_answer_counts_where_nobody_else_has_the_pair(
        self, open_desk, clock
    ):
        desk = open_desk()
        question = desk.next("one")
        clock.now += 10 * LEASE
        assert desk.answer("one", question.key, "tie", 9.0, "ann").choice == "tie"

    def test_an_answer_counts_once(self, open_desk):
        desk = open_desk()
        question, _ = give(desk)
        with pytest.raises(Refused, match="has its answer"):
            desk.answer("w", question.key, "second", 1.0, "ann")

    def test_closing_and_opening_goes_on(self, open_desk):
        desk = open_desk()
        answered = [give(desk)[0] for _ in range(3)]
        again = open_desk()
        assert again.progress == desk.progress
        assert again.next("new") not in answered

    def test_undo_shows_the_pair_again(self, open_desk):
        desk = open_desk()
        question, given_ = give(desk)
        give(desk)
        assert desk.undo("w", given_.number, "ann") == question
        assert desk.next("other") != question
        assert desk.progress["answered"] == 1
        with pytest.raises(Refused, match="cannot be taken back"):
            desk.undo("w", given_.number, "ann")
        assert desk.answer("w", question.key, "second", 1.0, "ann").choice == "second"

    def test_a_skipped_pair_is_not_repeated(self, open_desk):
        desk = open_desk(count=2, repeat_share=1.0)
        assert desk.progress["total"] == 4
        skipped, _ = give(desk, choice="skip")
        others = [give(desk)[0] for _ in range(2)]
        assert desk.next("w") is None
        assert skipped.key[0] not in {each.key[0] for each in others}
        assert (desk.progress["answered"], desk.progress["total"]) == (3, 3)

    def test_agreement_is_about_the_response_and_not_its_place(self, open_desk):
        desk = open_desk(count=3, repeat_share=1.0)
        for _ in range(3):
            give(desk, choice="first")
        for choice in ("second", "first", "tie"):
            give(desk, choice=choice)
        assert (desk.progress["agreed"], desk.progress["repeated"]) == (1, 3)
        assert desk.progress["median_seconds"] == 3.0

    def test_no_question_is_left_for_others_while_it_is_open(self, open_desk):
        desk = open_desk(count=1)
        desk.next("one")
        assert desk.next("two") is None
        assert desk.progress["answered"] < desk.progress["total"]

    def test_time_is_a_number(self, open_desk):
        desk = open_desk()
        for seconds, kept in ((float("nan"), 0.0), (-1.0, 0.0), (1.234, 1.23)):
            question = desk.next("w")
            given_ = desk.answer("w", question.key, "tie", seconds, "ann")
            assert given_.seconds == kept


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["answer", "undo", "ask", "leave", "wait", "restart"]),
        st.sampled_from(["one", "two"]),
        st.sampled_from(["first", "second", "tie", "skip"]),
    ),
    max_size=25,
)


@settings(max_examples=15)
@given(STEPS)
def test_any_session_holds(steps):
    """At no time do two windows show one pair, and all that was said is on disk."""
    folder = Path(tempfile.mkdtemp())
    clock = SimpleNamespace(now=0.0)
    questions = plan(list(map(request_row, range(4))), seed=0, repeat_share=0.5)
    journal = Journal.open(folder / "labels.jsonl")
    desk = Desk(questions, journal, lambda: clock.now)
    shown, given_, standing = {}, {"one": [], "two": []}, {}
    for what, window, choice in steps:
        if what == "ask":
            shown[window] = desk.next(window)
        elif what == "leave":
            desk.release(window)
            shown.pop(window, None)
        elif what == "wait":
            clock.now += LEASE + 1
            shown = {}
        elif what == "restart":
            journal.close()
            journal = Journal.open(folder / "labels.jsonl")
            desk, shown = Desk(questions, journal, lambda: clock.now), {}
        elif what == "answer" and shown.get(window):
            answer = desk.answer(window, shown[window].key, choice, 1.0, window)
            given_[window].append(answer.number)
            standing[answer.key] = answer
            shown[window] = desk.next(window)
        elif what == "undo" and given_[window]:
            shown[window] = desk.undo(window, given_[window].pop(), window)
            standing.pop(shown[window].key)
        keys = [question.key for question in shown.values() if question]
        assert len(keys) == len(set(keys))
        assert not set(keys) & set(standing)
        journal.close()
        journal = Journal.open(folder / "labels.jsonl")
        desk._journal = journal  # what is on disk is all that is known
        assert journal.standing == standing
    journal.close()
    shutil.rmtree(folder)
