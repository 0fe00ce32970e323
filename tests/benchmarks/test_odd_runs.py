import pytest

from benchmarks.odd_runs import Case, ending, is_right

TABLE = "| 1 | stop | 0 | collapsed |\n"
MIND = "Mind: the pool has one row.\n"
ODD, REFUSED = Case("", "pool has one"), Case("", "give the data", refused=True)


@pytest.mark.parametrize(
    ("case", "done", "right"),
    [
        (ODD, (0, TABLE + MIND, "12:00:00 INFO Score\n"), True),
        (ODD, (0, TABLE, ""), False),  # a success that is none
        (ODD, (0, MIND, ""), False),  # no reason to stop
        (ODD, (1, TABLE + MIND, "Traceback (most recent call last)\nMind"), False),
        (REFUSED, (2, "", "12:00:00 INFO Read\nError: give the data itself\n"), True),
        (REFUSED, (1, "", "Error: give the data itself\n"), False),
        (REFUSED, (2, "", "Traceback (most\nError: give the data itself\n"), False),
        (REFUSED, (0, TABLE, ""), False),
    ],
)
def test_what_counts_as_a_right_ending(case, done, right):
    assert is_right(case, *done) is right


def test_an_ending_has_the_reason_and_the_cautions():
    assert ending(0, TABLE + "Rows.\n" + MIND, "") == f"`collapsed`. {MIND.strip()}"
    assert ending(2, TABLE, "INFO a\nError: b\n") == "Error: b"
