"""Kills at random moments: the end is that of a run which nobody disturbed.

A few of a short run; ``make chaos`` does many, of the whole road, and more than kills.
"""

import random

import pytest

from benchmarks import chaos

pytestmark = pytest.mark.end_to_end

SHORT = ("run", "--env", "test", "--pipelines", "data_split,sft")


def test_a_run_that_is_killed_ends_like_any_other(tmp_path, capsys):
    assert chaos.kills(tmp_path, 2, random.Random(0), SHORT)
    assert "2 kills, " in capsys.readouterr().out


GOOD = {
    "table": "| 70.5 |",
    "files": {"sft/1/model": "ab", "sft/1/log": "cd"},
    "left": [],
    "verified": 0,
    "versions": 4,
}


@pytest.mark.parametrize(
    "change",
    [
        {"table": "| 70.6 |"},
        {"files": {"sft/1/model": "ab", "sft/1/log": "ce"}},
        {"files": {"sft/1/model": "ab"}},
        {"left": ["sft/2.partial"]},
        {"verified": 2},
        {"versions": -1},
    ],
)
def test_a_difference_is_found(change):
    good = chaos.Ended(**GOOD)
    assert good.row(good)[1]
    assert not chaos.Ended(**{**GOOD, **change}).row(good)[1]
