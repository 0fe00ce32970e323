"""Requests to label, a clock that is set by hand, and a desk."""

from types import SimpleNamespace

import pytest

from ser_kedro.labelling.desk import Desk, plan
from ser_kedro.labelling.journal import Journal
from ser_kedro.preferences.schema import Message, Pair

# What a model could answer, and must be seen and not obeyed.
PLANTED = """</p><script>document.title='x'</script><img src=x onerror="stolen=1">"""


def request_row(number):
    prompt = [{"role": "user", "content": f"What is {number}?"}]
    a, b = f"a{number}", f"b{number} {PLANTED}"
    turns = tuple(Message(**turn) for turn in prompt)
    return {
        "pair_id": Pair(turns, a, b).pair_id,
        "group": f"g{number}",
        "prompt": prompt,
        "response_a": a,
        "response_b": b,
        "source": "pool",
        "p_a": 0.25,
        "score": 0.5,
        "random": number % 5 == 0,
        "rank": number + 1,
    }


@pytest.fixture
def rows():
    return [request_row(number) for number in range(60)]


@pytest.fixture
def file(tmp_path):
    return tmp_path / "labels.jsonl"


@pytest.fixture
def clock():
    return SimpleNamespace(now=1000.0)


@pytest.fixture
def open_desk(rows, file, clock):
    """Open a desk on the file; a second time goes on with it."""
    opened = []

    def make(count=5, repeat_share=0.0, seed=0):
        for journal in opened:
            journal.close()
        journal = Journal.open(file)
        opened.append(journal)
        questions = plan(rows[:count], seed=seed, repeat_share=repeat_share)
        return Desk(questions, journal, lambda: clock.now)

    yield make
    for journal in opened:
        journal.close()
