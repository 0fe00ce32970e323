"""Who labels what next: questions, leases of windows, answers, progress."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ser_kedro.labelling.journal import Answer, Choice, Journal, Key, Undo
from ser_kedro.preferences.keyed import keyed_hash, shuffled

# Seconds that a pair stays with the window that shows it.
LEASE = 600.0
# Questions at least between a pair and its repetition, unless it is at the end.
DISTANCE = 20


class Refused(Exception):
    """What a window asks for is no longer possible; the message is for people."""


@dataclass(frozen=True)
class Question:
    """One showing of a pair.

    Attributes:
        request: A row of ``label_requests``.
        repeat: Whether it is the second time.
        swapped: Whether ``response_b`` is shown first.
    """

    request: dict[str, Any]
    repeat: bool
    swapped: bool

    @property
    def key(self) -> Key:
        """What is asked."""
        return self.request["pair_id"], self.repeat

    @property
    def shown(self) -> dict[str, Any]:
        """What a window may know of it: nothing that the model thinks."""
        responses = [self.request["response_a"], self.request["response_b"]]
        return {
            "pair_id": self.request["pair_id"],
            "repeat": self.repeat,
            "prompt": self.request["prompt"],
            "responses": responses[::-1] if self.swapped else responses,
        }


def plan(
    requests: Sequence[dict[str, Any]], *, seed: int, repeat_share: float
) -> list[Question]:
    """Return the questions in the order in which they are to be asked.

    Which response is shown first is drawn for each pair. A share of the pairs is asked
    a second time, later and in the other order.

    Args:
        requests: Rows of ``label_requests``, in their order.
        seed: Draws the order of the responses, and the pairs that are repeated.
        repeat_share: Share of the pairs to repeat, in [0, 1].
    """
    ids = [request["pair_id"] for request in requests]
    count = round(repeat_share * len(ids))
    repeated = set(shuffled(ids, seed=seed, table="repeat")[:count].tolist())
    placed: list[tuple[int, bool, Question]] = []
    for place, request in enumerate(requests):
        swapped = bool(keyed_hash(seed, "shown", ids[place]) & 1)
        placed.append((place, False, Question(request, False, swapped)))
        if place in repeated:
            again = Question(request, True, not swapped)
            placed.append((place + DISTANCE, True, again))
    placed.sort(key=lambda item: item[:2])
    return [question for *_, question in placed]


@dataclass(frozen=True)
class _Lease:
    window: str
    until: float


class Desk:
    """Hands questions to windows, each to one at a time, and takes their answers."""

    def __init__(
        self,
        questions: Sequence[Question],
        journal: Journal,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Take the questions, what was answered already, and a clock."""
        self._questions = {question.key: question for question in questions}
        self._journal = journal
        self._clock = clock
        self._leases: dict[Key, _Lease] = {}

    def next(self, window: str) -> Question | None:
        """Return what a window is to show: the first that is open and nobody else's."""
        self.release(window)
        for key, question in self._questions.items():
            if self._is_open(question) and self._is_free(key, window):
                return self._lend(question, window)
        return None

    def release(self, window: str) -> None:
        """Let other windows have what a window shows."""
        leases = self._leases.items()
        self._leases = {k: each for k, each in leases if each.window != window}

    def answer(
        self, window: str, key: Key, choice: Choice, seconds: float, annotator: str
    ) -> Answer:
        """Put an answer on disk.

        Raises:
            Refused: If the pair is another window's by now, or has an answer.
        """
        question = self._questions.get(key)
        if question is None or not self._is_open(question):
            raise Refused("This pair has its answer already.")
        if not self._is_free(key, window):
            raise Refused("This pair is open in another window by now.")
        request = question.request
        copied = ("pair_id", "random", "prompt", "response_a", "response_b", "source")
        given = Answer(
            **{name: request[name] for name in copied},
            number=self._journal.count,
            repeat=question.repeat,
            swapped=question.swapped,
            choice=choice,
            seconds=round(max(0.0, seconds), 2) if math.isfinite(seconds) else 0.0,
            time=round(self._clock(), 3),
            annotator=annotator,
        )
        self._journal.add(given)
        self._leases.pop(key, None)
        return given

    def undo(self, window: str, number: int, annotator: str) -> Question:
        """Take an answer back, and lend its pair to the window again.

        Raises:
            Refused: If there is no such answer, or it was taken back.
        """
        standing = self._journal.standing.values()
        found = next((each for each in standing if each.number == number), None)
        if found is None or found.key not in self._questions:
            raise Refused("This answer cannot be taken back any more.")
        now = round(self._clock(), 3)
        entry = Undo(
            number=self._journal.count, undoes=number, time=now, annotator=annotator
        )
        self._journal.add(entry)
        self.release(window)
        return self._lend(self._questions[found.key], window)

    @property
    def progress(self) -> dict[str, Any]:
        """What has been done: counts, median seconds, agreement of repetitions."""
        answers = [
            answer
            for key, answer in self._journal.standing.items()
            if key in self._questions
        ]
        both = [
            (first, second)
            for second in answers
            if second.repeat
            and (first := self._journal.standing.get((second.pair_id, False)))
            and "skip" not in (first.choice, second.choice)
        ]
        choices = [answer.choice for answer in answers]
        skipped_repeats = sum(map(self._is_pointless, self._questions.values()))
        return {
            "answered": len(answers),
            "total": len(self._questions) - skipped_repeats,
            "ties": choices.count("tie"),
            "skipped": choices.count("skip"),
            "first_shown": choices.count("first"),
            "second_shown": choices.count("second"),
            "repeated": len(both),
            "agreed": sum(one.preferred == two.preferred for one, two in both),
            "median_seconds": statistics.median(a.seconds for a in answers)
            if answers
            else None,
        }

    def _lend(self, question: Question, window: str) -> Question:
        self._leases[question.key] = _Lease(window, self._clock() + LEASE)
        return question

    def _is_open(self, question: Question) -> bool:
        if question.key in self._journal.standing:
            return False
        first = self._journal.standing.get((question.key[0], False))
        return not question.repeat or (first is not None and first.choice != "skip")

    def _is_free(self, key: Key, window: str) -> bool:
        lease = self._leases.get(key)
        return lease is None or lease.window == window or lease.until <= self._clock()

    def _is_pointless(self, question: Question) -> bool:
        """Whether a pair will not be repeated, because it was skipped."""
        first = self._journal.standing.get((question.key[0], False))
        unanswered = question.key not in self._journal.standing
        skipped = first is not None and first.choice == "skip"
        return question.repeat and unanswered and skipped
